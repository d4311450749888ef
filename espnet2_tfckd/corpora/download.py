"""Fetching large zips by HTTP: resumable, checked against size and checksum; and unpacking them."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from espnet2_tfckd.data.locking import only_one

ATTEMPTS = 5  # at each address
BLOCK = 1 << 20
OVERLAP = 1 << 16  # bytes that are fetched twice, to see that an address goes on with the same file
TIMEOUT = 60.0  # seconds without a byte
ZIP_MAGIC = b"PK\x03\x04"
TRANSIENT = (408, 429)  # statuses below 500 that another attempt may change


class RemoteZip(NamedTuple):
    """A zip to fetch.

    Attributes:
        name: Its name on disk, which need not be in its addresses.
        bytes: Its size, possibly rounded, to check the free space.
        md5: Its checksum, which decides whether the file is right.
        urls: Addresses to try, the best first.
    """

    name: str
    bytes: int
    md5: str
    urls: tuple[str, ...]


def fetch_zips(
    zips: Sequence[RemoteZip], folder: str | Path, source_url: str | None = None
) -> None:
    """Make sure that every zip is in ``folder``; those that are there are left alone.

    A file is fetched as ``<name>.part`` and gets its name once its checksum is right. Where one
    address, or an earlier run, broke off, the next one goes on. If an address answers with another
    file or with a web page, the next address is tried, and nothing is added to the file.

    Args:
        zips: What to fetch.
        folder: Where they go.
        source_url: Address of a folder that holds them all under their names; used instead of
            their own addresses.

    Raises:
        OSError: If there is too little space on the disk for all of them.
        RuntimeError: If no address gave the right file (the message says what each gave), or
            another process is working on ``folder``.
    """
    folder = Path(folder)
    if all((folder / wanted.name).exists() for wanted in zips):
        return
    with only_one(folder):
        missing = [wanted for wanted in zips if not (folder / wanted.name).exists()]
        begun = sum(_size(_part(folder / wanted.name)) for wanted in missing)
        require_space(folder, sum(wanted.bytes for wanted in missing) - begun)
        for wanted in missing:
            own = source_url and (f"{source_url.rstrip('/')}/{wanted.name}",)
            _fetch(wanted._replace(urls=own or wanted.urls), folder / wanted.name)


def require_space(folder: Path, needed: int) -> None:
    """Refuse to start if the disk has too little space.

    Raises:
        OSError: If less than ``needed`` bytes are free where ``folder`` lies.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{folder}: {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free: "
            "make room, or choose a folder on another disk with --corpus_dir"
        )


def unpack_flat(archive: Path, folder: Path, suffix: str) -> None:
    """Unpack all files of one kind from a zip into one folder, whatever their folders in the zip.

    ``folder`` appears once it is complete. If a run was interrupted, its work is done again.

    Raises:
        RuntimeError: If another process is working where ``folder`` lies.
        OSError: If there is too little space on the disk, or ``folder`` cannot be written.
        ValueError: If the zip is damaged.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    with only_one(folder.parent):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _unpack(archive, partial, suffix)
        partial.rename(folder)


def _unpack(archive: Path, folder: Path, suffix: str) -> None:
    try:
        with zipfile.ZipFile(archive) as content:
            entries = [entry for entry in content.infolist() if _is_kind(entry.filename, suffix)]
            require_space(folder, sum(entry.file_size for entry in entries))
            for entry in tqdm(entries, f"unpacking {archive.name}", unit="file"):
                target = folder / PurePosixPath(entry.filename).name
                with content.open(entry) as source, open(target, "wb") as output:
                    shutil.copyfileobj(source, output)  # reading to the end checks the CRC
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive} is damaged ({error}): delete it and fetch it again") from error


def _is_kind(name: str, suffix: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() == suffix and "__MACOSX" not in path.parts


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _fetch(wanted: RemoteZip, path: Path) -> None:
    """Try one address after the other until the file is right."""
    part, answers = _part(path), []
    is_right = part.exists() and _md5(part) == wanted.md5
    for url in () if is_right else wanted.urls:
        try:
            _fetch_from(url, part, wanted.md5)
            is_right = True
            break
        except (OSError, HTTPException, ValueError) as error:
            answers.append(f"{url}: {error}")
            print(answers[-1], file=sys.stderr)
    if not is_right:
        begun = f" (it goes on from {part}; delete that to start again)" if _size(part) else ""
        raise RuntimeError(
            "\n  ".join([f"{wanted.name} cannot be fetched. What its addresses gave:", *answers])
            + f"\nRun the same command again{begun}, give another --source_url, or put "
            f"{wanted.name} into {path.parent} yourself"
        )
    part.rename(path)


def _fetch_from(url: str, part: Path, md5: str) -> None:
    """Complete a file from one address; if the result is wrong, remove what was added.

    Raises:
        OSError, HTTPException: If the address cannot be read to its end in several attempts.
        ValueError: If the address gives another file.
    """
    begun = _size(part)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue_download(url, part)
            break
        except (OSError, HTTPException) as error:
            status = getattr(error, "code", 500)
            if attempt == ATTEMPTS or (status < 500 and status not in TRANSIENT):
                raise
        time.sleep(2 * attempt)
    if (digest := _md5(part)) != md5:
        size = _size(part)
        if begun:
            os.truncate(part, begun)
        else:
            part.unlink()
        raise ValueError(f"{size} bytes with md5 {digest} instead of {md5}")


def _continue_download(url: str, part: Path) -> None:
    """Append the missing part of a file; a server that cannot send a part sends the whole file.

    Raises:
        OSError, HTTPException: If the connection fails or breaks off.
        ValueError: If the address does not give a zip, or not the one that was begun.
    """
    begun = _size(part)
    start = max(0, begun - OVERLAP)
    headers = {"User-Agent": "espnet2-tfckd"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        block = response.read(len(ZIP_MAGIC))
        if not start and block != ZIP_MAGIC[: len(block)]:
            kind = response.headers.get_content_type()
            raise ValueError(f"status {response.status} with {kind}, which is not a zip")
        part.touch()
        with (
            open(part, "r+b") as file,
            tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True) as bar,
        ):
            file.seek(start)
            while block:
                known = file.read(len(block))
                if known != block[: len(known)]:
                    raise ValueError(f"another file than that of which {begun} bytes are there")
                file.write(block[len(known) :])
                bar.update(len(block))
                block = response.read1(BLOCK)
    size = _size(part)
    # Without a length, only the table at a zip's end shows that all of it is there.
    if size < total if total else not zipfile.is_zipfile(part):
        raise OSError(f"the connection broke off at {size} of {total or 'unknown'} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
