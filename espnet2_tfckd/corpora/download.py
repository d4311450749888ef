"""Fetching large zips by HTTP: resumable, checked against size and checksum; and unpacking them."""

from __future__ import annotations

import hashlib
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

ATTEMPTS = 5
BLOCK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte


class RemoteZip(NamedTuple):
    """A zip to fetch; ``bytes`` serves the check of free space, ``md5`` decides if it is right."""

    name: str
    bytes: int
    md5: str


def fetch_zips(zips: Sequence[RemoteZip], source_url: str, folder: str | Path) -> None:
    """Have every zip in ``folder``; those that are there are left alone.

    A file is fetched as ``<name>.part``, from where an earlier run was interrupted, and gets its
    name once its checksum is right.

    Args:
        zips: What to fetch.
        source_url: Address of the folder they are in.
        folder: Where they go.

    Raises:
        OSError: There is too little space on the disk for all of them.
        RuntimeError: A download failed repeatedly, or gave another file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [wanted for wanted in zips if not (folder / wanted.name).exists()]
    begun = sum(p.stat().st_size for w in missing if (p := _part(folder / w.name)).exists())
    require_space(folder, sum(wanted.bytes for wanted in missing) - begun)
    for wanted in missing:
        _fetch(wanted, f"{source_url.rstrip('/')}/{wanted.name}", folder / wanted.name)


def require_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        OSError: Less than ``needed`` bytes are free where ``folder`` lies.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{folder}: {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free: "
            "make room, or choose a folder on another disk with --corpus_dir"
        )


def unpack_flat(archive: Path, folder: Path, suffix: str) -> None:
    """Unpack a zip's files of one kind into one folder, whatever folders they have inside it.

    ``folder`` appears once it is complete; what an interrupted run left is done again.

    Raises:
        OSError: There is too little space on the disk, or ``folder`` cannot be written.
        ValueError: The zip is damaged.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as content:
            entries = [entry for entry in content.infolist() if _is_kind(entry.filename, suffix)]
            require_space(partial, sum(entry.file_size for entry in entries))
            for entry in tqdm(entries, f"unpacking {archive.name}", unit="file"):
                target = partial / PurePosixPath(entry.filename).name
                with content.open(entry) as source, open(target, "wb") as output:
                    shutil.copyfileobj(source, output)  # reading to the end checks the CRC
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{archive} is damaged ({error}): delete it and fetch it again") from error
    partial.rename(folder)


def _is_kind(name: str, suffix: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() == suffix and "__MACOSX" not in path.parts


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _fetch(wanted: RemoteZip, url: str, path: Path) -> None:
    part = _part(path)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue_download(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416:  # all of it was there already, or more than that
                break
            problem: Exception = error
        except (OSError, HTTPException) as error:
            problem = error
        if attempt == ATTEMPTS:
            raise RuntimeError(
                f"{url} cannot be fetched ({ATTEMPTS} attempts): {problem}. Run the same command "
                f"again to go on, give another --source_url, or put {wanted.name} into "
                f"{path.parent} yourself"
            ) from problem
        time.sleep(2 * attempt)
    with open(part, "rb") as stream:
        digest = hashlib.file_digest(stream, "md5").hexdigest()
    if digest != wanted.md5:
        size = part.stat().st_size
        part.unlink()
        raise RuntimeError(
            f"{url} gave {size} bytes with md5 {digest} instead of {wanted.md5}; they were "
            "deleted. Run the same command again; if that does not help, check --source_url, or "
            f"put {wanted.name} into {path.parent} yourself"
        )
    part.rename(path)


def _continue_download(url: str, part: Path) -> None:
    """Append what is missing of a file; a server that cannot send a part of it sends it all."""
    begun = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "espnet2-tfckd"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        begun = begun if response.status == 206 else 0
        left = response.headers.get("Content-Length")
        total = begun + int(left) if left else None
        with (
            open(part, "ab" if begun else "wb") as output,
            tqdm(desc=part.stem, total=total, initial=begun, unit="B", unit_scale=True) as bar,
        ):
            while block := response.read(BLOCK):
                output.write(block)
                bar.update(len(block))
    if total and part.stat().st_size < total:
        raise OSError(f"the connection broke off at {part.stat().st_size} of {total} bytes")
