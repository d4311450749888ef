"""What a result was made of, and whether it still is.

A result is made of files, options and code. Of a file, the contents count, as a digest, and not
where it lies. As in git's index, a file is not read again while its size, times and inode are those
that it had when its digest was computed.

What a result was made of is plain JSON, so that it can lie beside the result, or within it. Compute
it before the work, and write it when the work is done::

    record = folder / "made_of.json"
    now = made_of(files, options, before=read_record(record))
    if reason := change(read_record(record), now):
        print(f"statistics: {reason}")
        ...
        write_record(record, now)
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from espnet2_tfckd.cli import write_json
from espnet2_tfckd.data.datadir import DataDir, raise_problems
from espnet2_tfckd.data.entries import file_of

#: The name of a record that lies beside its result.
RECORD = "made_of.json"
#: A file this young, in seconds, may change again within the resolution of its times.
_RACY_SECONDS = 2.0
_MANY = 20  # files that are read in parallel
_SHOWN = 3
_LONG = 30  # characters of a value that a reason does not spell out
#: The reason where there is no result yet.
NOT_MADE = "not made yet"


def made_of(
    files: Mapping[str, str | Path] | None = None,
    options: Mapping[str, Any] | None = None,
    code: Mapping[str, Any] | None = None,
    before: dict | None = None,
    contents: bool = True,
) -> dict:
    """Describe what a result is made of now.

    Args:
        files: Files, each by a name that does not change when it is moved, such as ``utterance
            mixture``.
        options: Everything else that the user chose and that determines the result.
        code: Revisions of those parts of the code that determine the result.
        before: What an earlier result was made of: files that have not been touched since are not
            read again.
        contents: If false, size, times and inode stand for a file's contents. Nothing is read, and
            a file that was moved or touched counts as changed.

    Returns:
        ``files`` (digest, then size, times and inode, by name), ``options`` and ``code``, in the
        form that JSON returns.

    Raises:
        ValueError: If files are missing or cannot be read; all of them are listed.
    """
    known = (before or {}).get("files", {})
    problems: list[str] = []

    def state(item: tuple[str, str | Path]) -> tuple[str, list | None]:
        name, path = item
        try:
            if not contents:
                return name, [digest_of(_stamp(path))]
            return name, file_state(path, known.get(name))
        except OSError as error:
            problems.append(f"{name}: {path} cannot be read ({error.strerror or error})")
            return name, None

    names = {str(path): name for name, path in (files or {}).items()}
    items = [(name, path) for path, name in names.items()]  # each file once
    if len(items) < _MANY:
        states = dict(map(state, items))
    else:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            shown = tqdm(pool.map(state, items), "reading files", len(items), delay=3, leave=False)
            states = dict(shown)
    raise_problems(f"files (paths seen from {Path.cwd()})", sorted(problems))
    states = {name: states[names[str(path)]] for name, path in (files or {}).items()}
    parts = {"files": states, "options": dict(options or {}), "code": dict(code or {})}
    return json.loads(json.dumps(parts))


def file_state(path: str | Path, known: Sequence | None = None) -> list:
    """Digest of a file's contents, and the data that show whether it has been touched since.

    Args:
        path: The file.
        known: Its state at an earlier time; if the file is untouched, that digest is used again.

    Returns:
        Digest, size, time of the last change of contents and of the inode (ns), inode. The last
        four are 0 for a file so new that a further change might not alter them.

    Raises:
        OSError: If the file cannot be read.
    """
    now = time.time_ns()
    stamp = _stamp(path)
    if known and list(known[1:]) == stamp:
        return list(known)
    digest = sha256(path)[:32]
    is_racy = now - max(stamp[1:3]) < _RACY_SECONDS * 1e9
    return [digest, *([0] * 4 if is_racy else stamp)]


def sha256(path: str | Path) -> str:
    """Checksum of a file's contents as hexadecimal text."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stamp(path: str | Path) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def change(before: dict | None, now: dict) -> str | None:
    """Say in one line why a result must be made, or made again.

    Args:
        before: What the result was made of; None if there is none.
        now: What it is to be made of.

    Returns:
        The reason; None if the result is still made of this.

    Examples:
        >>> change(None, made_of())
        'not made yet'
        >>> change(made_of(options={"fs": 8000}), made_of(options={"fs": 16000}))
        'fs was 8000, is 16000'
        >>> change(made_of(options={"fs": 8000}), made_of(options={"fs": 8000})) is None
        True
    """
    reasons = changes(before, now)
    if len(reasons) > _SHOWN:
        reasons[_SHOWN:] = [f"{len(reasons) - _SHOWN} more changes"]
    return "; ".join(reasons) or None


def changes(before: dict | None, now: dict) -> list[str]:
    """All reasons why a result must be made, or made again; :func:`change` joins them."""
    if before is None:
        return [NOT_MADE]
    reasons = []
    for part in ("options", "code"):
        earlier, present = before.get(part, {}), now[part]
        reasons += [
            _difference(key, earlier.get(key), present.get(key))
            for key in {**earlier, **present}
            if earlier.get(key) != present.get(key)
        ]
    earlier, present = before.get("files", {}), now["files"]
    changed = changed_files(before, now)
    reasons += [
        _sentence(names, verb)
        for verb, names in (
            ("changed", [name for name in changed if name in earlier]),
            ("added", [name for name in changed if name not in earlier]),
            ("removed", [name for name in earlier if name not in present]),
        )
        if names
    ]
    return reasons


def changed_files(before: dict | None, now: dict) -> list[str]:
    """Names of the files that are new, or have other contents than before."""
    earlier, present = (_digests((made or {}).get("files", {})) for made in (before, now))
    return [name for name, digest in present.items() if earlier.get(name) != digest]


def _difference(key: str, before: Any, now: Any) -> str:
    if max(len(str(value)) for value in (before, now)) > _LONG:  # a digest, or a whole table
        return f"{key} changed"
    return f"{key} was {before!r}, is {now!r}"


def _sentence(names: list[str], verb: str) -> str:
    if len(names) == 1:
        return f"{names[0]} was {verb}"
    return f"{len(names)} files were {verb} (such as {names[0]})"


def _digests(states: dict) -> dict[str, str]:
    return {name: state[0] for name, state in states.items()}


def content_digest(made: dict, prefix: str = "") -> str:
    """One short text for the contents of all files whose name begins with ``prefix``."""
    digests = _digests(made["files"])
    return digest_of(sorted((n, d) for n, d in digests.items() if n.startswith(prefix)))


def without_stamps(made: dict) -> dict:
    """What a result is made of, the same on every machine: files by name and digest alone."""
    return {**made, "files": {name: [digest] for name, digest in _digests(made["files"]).items()}}


def digest_of(value: Any) -> str:
    """Short text that changes with a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def audio_of(data: DataDir, utterances: Iterable[str] | None = None) -> dict[str, Path]:
    """The audio files of a data directory, by ``<utterance> mixture`` and ``... reference``."""
    utterances = list(data.mixture if utterances is None else utterances)
    tables = {"mixture": data.mixture, "reference": data.reference}
    return {
        name: path
        for kind, table in tables.items()
        for name, path in named_files({u: table[u] for u in utterances}, kind).items()
    }


def named_files(entries: Mapping[str, str], kind: str) -> dict[str, Path]:
    """The files of scp entries by ``<utterance> <kind>``, with the place within an archive."""
    files = {}
    for utterance, entry in entries.items():
        path = file_of(entry)
        place = entry.removeprefix(str(path))
        files[f"{utterance} {kind}{place and f' at {place[1:]}'}"] = path
    return files


def read_record(path: str | Path) -> dict | None:
    """What a result was made of, as :func:`write_record` left it.

    Returns:
        None if there is no record that this version can read; the result then counts as not made.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= {"files", "options"} else None


def write_record(path: str | Path, made: dict) -> None:
    """Record what a result was made of, as the last step of making it."""
    write_json(path, made)
