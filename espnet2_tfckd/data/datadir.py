"""Kaldi-style data directories: read, check, filter and write them.

A data directory holds ``wav.scp`` (mixture), ``spk1.scp`` (reference), ``utt2spk``, ``spk2utt``,
optionally ``text`` and ``metadata.csv`` (first column ``id``). All list the same utterances in
C-locale order, except that ``text`` may leave some out. An utterance id begins with its speaker id.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.data.entries import file_of
from espnet2_tfckd.data.paths import MARKER, MARKER_TEXT

TABLES = ("wav.scp", "spk1.scp", "utt2spk", "spk2utt", "text", "metadata.csv")
SHOWN_PROBLEMS = 10


@dataclass
class DataDir:
    """Contents of a data directory; every mapping is keyed by utterance id.

    Attributes:
        mixture: scp entry of the noisy audio.
        reference: scp entry of the clean audio.
        speaker: Speaker id.
        text: Transcript, for the utterances that have one.
        metadata: Row of ``metadata.csv`` without its ``id`` column.
    """

    mixture: dict[str, str]
    reference: dict[str, str]
    speaker: dict[str, str]
    text: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.mixture)

    def subset(self, utterances: Collection[str]) -> DataDir:
        """The same data directory with only ``utterances`` in it."""
        keep = set(utterances)
        tables = (self.mixture, self.reference, self.speaker, self.text, self.metadata)
        return DataDir(*({u: v for u, v in table.items() if u in keep} for table in tables))

    def problems(self) -> list[str]:
        """Everything that breaks the contract, one sentence each; empty if all is well."""
        found = []
        if not self.mixture:
            found.append("wav.scp lists no utterance")
        names = {"spk1.scp": self.reference, "utt2spk": self.speaker}
        if self.metadata:
            names["metadata.csv"] = self.metadata
        for name, table in names.items():
            found += [f"{u} is in wav.scp, not in {name}" for u in self.mixture if u not in table]
            found += [f"{u} is in {name}, not in wav.scp" for u in table if u not in self.mixture]
        found += [f"{u} is in text, not in wav.scp" for u in self.text if u not in self.mixture]
        found += [
            f"utterance {utterance} does not begin with its speaker id {speaker}"
            for utterance, speaker in self.speaker.items()
            if not utterance.startswith(speaker)
        ]
        return found


def read_data_dir(path: str | Path) -> DataDir:
    """Read and check a data directory.

    Raises:
        FileNotFoundError: If the folder or a file that must be there is missing (the message names
            all).
        ValueError: If lines or contents break the contract; the message lists the problems.
    """
    path = Path(path)
    missing = [n for n in ("wav.scp", "spk1.scp", "utt2spk", "spk2utt") if not (path / n).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{path} is not a data directory: {', '.join(missing)} missing; run the stage that "
            "makes it first"
        )
    problems: list[str] = []
    data = DataDir(*(_read_table(path / n, problems) for n in ("wav.scp", "spk1.scp", "utt2spk")))
    spk2utt = _read_table(path / "spk2utt", problems)
    if not problems and spk2utt != _spk2utt(data.speaker):
        problems.append("spk2utt does not agree with utt2spk")
    if (path / "text").is_file():
        data.text = _read_table(path / "text", problems, empty_ok=True)
    if (path / "metadata.csv").is_file():
        data.metadata = _read_metadata(path / "metadata.csv", problems)
    raise_problems(str(path), problems + data.problems())
    return data


def write_data_dir(path: str | Path, data: DataDir) -> None:
    """Write a data directory in C-locale order; ``wav.scp``, which marks it complete, comes last.

    A directory that already holds the same is left alone: another process may be reading it.

    Raises:
        ValueError: If the contents break the contract, or the data directory exists and this
            project did not write it; nothing is written then.
    """
    path = Path(path)
    raise_problems(str(path), data.problems())
    there = [path / name for name in TABLES if (path / name).exists()]
    if there and not (path / MARKER).exists():
        raise ValueError(
            f"{there[0]} was not written by this recipe (or by an earlier version of it) and would "
            "be overwritten: move it, or write to another directory"
        )
    files = {"spk1.scp": data.reference, "utt2spk": data.speaker}
    files |= {"spk2utt": _spk2utt(data.speaker)}
    contents = {name: _format_table(table) for name, table in files.items()}
    if data.text:
        contents["text"] = _format_table(data.text)
    if data.metadata:
        contents["metadata.csv"] = _format_metadata(data.metadata)
    contents["wav.scp"] = _format_table(data.mixture)
    if {file: file.read_bytes() for file in there} == {
        path / name: content.encode() for name, content in contents.items()
    }:
        return
    path.mkdir(parents=True, exist_ok=True)
    (path / MARKER).write_text(MARKER_TEXT, encoding="utf-8")
    for name in {"wav.scp", "text", "metadata.csv"}:  # leave nothing of an earlier content
        (path / name).unlink(missing_ok=True)
    for name, content in contents.items():
        with atomic_write(path / name) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="")


def read_scp(scp: str | Path) -> dict[str, str]:
    """Read ``utterance entry`` lines of a file that is not part of a data directory.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If the file is empty, a line has no entry, or an utterance occurs twice.
    """
    from espnet2.fileio.read_text import read_2columns_text

    if not Path(scp).is_file():
        raise FileNotFoundError(f"{scp} is not there: run the stage that makes it first")
    try:
        entries = read_2columns_text(scp)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{scp}: {error}") from error
    if not entries:
        raise ValueError(f"{scp} is empty")
    for utterance, entry in entries.items():
        if not entry:
            raise ValueError(f"{scp}: {utterance} has no file")
    return entries


def raise_problems(where: str, problems: list[str]) -> None:
    """Raise one error that lists the problems found in ``where``; do nothing if there are none.

    Raises:
        ValueError: If there are problems; the message lists the first ten and counts the others.
    """
    if not problems:
        return
    lines = [f"{where}: {len(problems)} problem{'s' if len(problems) > 1 else ''} found"]
    lines += [f"  - {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  ... and {len(problems) - SHOWN_PROBLEMS} more")
    raise ValueError("\n".join(lines))


def source_files(data: DataDir) -> set[Path]:
    """The files that hold the audio of a data directory."""
    return set(map(file_of, [*data.mixture.values(), *data.reference.values()]))


def _read_table(path: Path, problems: list[str], empty_ok: bool = False) -> dict[str, str]:
    """Read ``key value...`` lines; report malformed, repeated and unsorted ones."""
    table: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        problems.append(f"{path.name} is not UTF-8 text")
        return table
    for number, line in enumerate(lines, 1):
        key, _, value = line.strip().partition(" ")
        if not key or not (value.strip() or empty_ok):
            problems.append(f'{path.name} line {number} is not "id value": {line!r}')
        elif key in table:
            problems.append(f"{path.name} line {number} repeats {key}")
        else:
            table[key] = value.strip()
    if list(table) != _c_order(table):
        problems.append(f"{path.name} is not in C-locale order: sort it with LC_ALL=C sort")
    return table


def _read_metadata(path: Path, problems: list[str]) -> dict[str, dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if not reader.fieldnames or reader.fieldnames[0] != "id":
            problems.append(f"{path.name}: the first column must be id")
            return {}
        rows = list(reader)
    ragged = [str(row["id"]) for row in rows if None in row or None in row.values()]
    if ragged:
        problems.append(f"{path.name}: other columns than its first line: {', '.join(ragged[:5])}")
        return {}
    repeated = len(rows) - len({row["id"] for row in rows})
    if repeated:
        problems.append(f"{path.name} repeats {repeated} ids")
    return {row.pop("id"): row for row in rows}


def _format_table(table: dict[str, str]) -> str:
    return "".join(f"{key} {table[key]}".rstrip() + "\n" for key in _c_order(table))


def _format_metadata(metadata: dict[str, dict[str, str]]) -> str:
    columns = list(dict.fromkeys(column for row in metadata.values() for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", *columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"id": key, **metadata[key]} for key in _c_order(metadata))
    return text.getvalue()


def _spk2utt(speaker: dict[str, str]) -> dict[str, str]:
    groups: dict[str, list[str]] = {}
    for utterance in _c_order(speaker):
        groups.setdefault(speaker[utterance], []).append(utterance)
    return {name: " ".join(utterances) for name, utterances in groups.items()}


def _c_order(keys: Iterable[str]) -> list[str]:
    """Sort by UTF-8 bytes, which is the order of code points."""
    return sorted(keys)
