"""Packed models of strangers: everything in them is inspected before any of it is written."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from espnet2_tfckd.models.configuration import MAX_YAML_BYTES, check_configuration, parse_yaml

MAX_FILES = 1000
MAX_BYTES = 4 * 2**30  # unpacked
MAX_RATIO = 200  # unpacked size over packed size; ESPnet itself does not compress
_SMALL = 16 * 2**20  # up to this many bytes any ratio will do
META = "meta.yaml"
# what ESPnet and stage 11 pack of an enhancement model, and what people add to explain it
SUFFIXES = {".pth", ".pt", ".yaml", ".yml", ".json", ".md", ".txt", ".log", ".png", ".svg", ".pdf"}
# what zipfile raises for a damaged archive
_UNREADABLE = (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, struct.error)
_UNREADABLE += (UnicodeError,)
_REMEDY = "nothing was unpacked; get the model again, from a source that you trust"


class PackedModel(NamedTuple):
    """Names of configuration and checkpoint, relative to the folder that holds them."""

    config: str
    checkpoint: str


def name_fault(name: object) -> str:
    """Say what is wrong with the name of a file in a pack; empty if nothing is.

    A good name is relative, and stays inside its folder on every system.

    Examples:
        >>> name_fault("exp/enh_student/config.yaml")
        ''
        >>> name_fault("../config.yaml")
        'leads out of its folder'
    """
    if not isinstance(name, str) or not name:
        return "is not a name"
    if any(not char.isprintable() or char in '\\:*?"<>|' for char in name):
        return "has characters that names of files must not have"
    if name.startswith(("/", "~")):
        return "is not a relative name"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of its folder"
    if any(part != part.strip(" ") or part.endswith(".") or not part for part in parts):
        return "is not a plain name"
    if len(name) > 1000 or any(len(os.fsencode(part)) > 200 for part in parts):
        return "is too long"
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        return f"is not a kind of file that a model consists of ({', '.join(sorted(SUFFIXES))})"
    return ""


def read_meta(text: bytes, names: Collection[str], source: str) -> PackedModel:
    """Find the configuration and the checkpoint of a pack.

    Args:
        text: Contents of its ``meta.yaml``.
        names: The files that the pack holds.
        source: What the pack is called in messages.

    Raises:
        ValueError: If ``meta.yaml`` is not as ESPnet writes it, names files that are missing or not
            inside the pack, or belongs to another task.
    """
    meta = parse_yaml(text, f"{source}: {META}")
    named: dict[str, object] = {}
    for group in ("yaml_files", "files"):
        entries = meta.get(group) if isinstance(meta, dict) else None
        if not isinstance(entries, dict):
            raise ValueError(f"{source}: {META} has no entry {group}: {_REMEDY}")
        named |= entries
    for name in named.values():
        if fault := name_fault(name):
            raise ValueError(f"{source}: {META} names {shown(name)}, which {fault}: {_REMEDY}")
        if name not in names:
            raise ValueError(
                f"{source}: {META} names {shown(name)}, which the pack does not hold: {_REMEDY}"
            )
    if not {"train_config", "model_file"} <= named.keys():
        raise ValueError(
            f"{source} is not an enhancement model of ESPnet: it packs "
            + shown(", ".join(map(str, named)))
        )
    return PackedModel(named["train_config"], named["model_file"])


def shown(name: object) -> str:
    """Show a name from a pack on one line, whatever characters it has."""
    text = ascii(name)
    return text if len(text) <= 120 else f"{text[:117]}..."


def unpack(archive: str | Path, folder: str | Path) -> PackedModel:
    """Unpack a model that ESPnet has packed.

    ESPnet's own function trusts the names in a pack, and writes wherever they lead.

    Args:
        archive: The ``.zip``.
        folder: Folder to write. It must not exist before, and does not exist after an error.

    Raises:
        FileNotFoundError: If the archive is not there.
        FileExistsError: If the folder exists.
        ValueError: If the archive cannot be read, or anything in it differs from what a packed
            model holds; the message names the archive and the member.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise FileNotFoundError(f"packed model {archive} is not there")
    try:
        with zipfile.ZipFile(archive) as pack:
            files = _inspect(pack, str(archive))
            packed = _inspect_yaml(pack, files, str(archive))
            folder.mkdir(parents=True)
            try:
                for name, info in files.items():
                    _write(pack, info, folder / name, str(archive))
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except _UNREADABLE as error:
        raise ValueError(
            f"{archive} cannot be read as a packed ESPnet model ({error}): fetch or pack it again"
        ) from error
    return packed


def _inspect(pack: zipfile.ZipFile, source: str) -> dict[str, zipfile.ZipInfo]:
    """The files in a pack by their names, after checking names, kinds and sizes."""
    infos = pack.infolist()
    if min((info.header_offset for info in infos), default=1):
        # the directory that zipfile has found is that of a checkpoint, a zip file too, inside
        raise zipfile.BadZipFile("it is cut off, or empty, or does not begin as a zip file")
    if len(infos) > MAX_FILES:
        raise ValueError(f"{source} holds {len(infos)} files, more than any model: {_REMEDY}")
    files: dict[str, zipfile.ZipInfo] = {}
    seen: dict[str, str] = {}  # names as file systems without upper case see them
    folders: set[str] = set()
    for info in infos:
        name = info.orig_filename  # zipfile cuts the other one at NUL
        if fault := _fault(info):
            raise ValueError(f"{source}: member {shown(name)} {fault}: {_REMEDY}")
        key = unicodedata.normalize("NFC", name).casefold()
        folders.update(map(str, PurePosixPath(key).parents))
        if info.is_dir():
            folders.add(key.rstrip("/"))
            continue
        if key in seen:
            raise ValueError(
                f"{source}: member {shown(name)} is there twice (as {shown(seen[key])}): {_REMEDY}"
            )
        seen[key], files[name] = name, info
    if both := folders & seen.keys():
        name = shown(seen[min(both)])
        raise ValueError(f"{source}: member {name} is a file and a folder: {_REMEDY}")
    total = sum(info.file_size for info in files.values())
    if total > MAX_BYTES:
        raise ValueError(
            f"{source} unpacks to {total / 2**30:.0f} GiB, more than {MAX_BYTES / 2**30:.0f}: "
            f"{_REMEDY}"
        )
    if META not in files:
        raise ValueError(
            f"{source} cannot be read as a packed ESPnet model (it holds no {META}): fetch or pack "
            "it again"
        )
    return files


def _fault(info: zipfile.ZipInfo) -> str:
    """Say what is wrong with a member; empty if nothing is."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir():
        name = info.orig_filename.rstrip("/")
        return (
            "is a link or a device" if kind not in (0, stat.S_IFDIR) else name_fault(f"{name}/a.md")
        )
    if fault := name_fault(info.orig_filename):
        return fault
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that ESPnet does not use"
    if info.file_size > max(_SMALL, MAX_RATIO * info.compress_size):
        return f"unpacks to {info.file_size / max(1, info.compress_size):.0f} times its size"
    return ""


def _inspect_yaml(
    pack: zipfile.ZipFile, files: dict[str, zipfile.ZipInfo], source: str
) -> PackedModel:
    packed = read_meta(_read_small(pack, files[META], source), files, source)
    options = parse_yaml(
        _read_small(pack, files[packed.config], source), f"{source}: {packed.config}"
    )
    check_configuration(options, f"{source}: {packed.config}")
    return packed


def _read_small(pack: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> bytes:
    with _open(pack, info, source) as stream:
        text = _read(stream, MAX_YAML_BYTES + 1, info, source)
    return text


def _open(pack: zipfile.ZipFile, info: zipfile.ZipInfo, source: str):
    try:
        return pack.open(info)
    except Exception as error:  # zipfile raises many kinds of errors for damage
        raise _damaged(source, info, error) from error


def _read(stream, most: int, info: zipfile.ZipInfo, source: str) -> bytes:
    try:
        return stream.read(most)
    except Exception as error:  # so does zlib
        raise _damaged(source, info, error) from error


def _damaged(source: str, info: zipfile.ZipInfo, error: Exception) -> ValueError:
    return ValueError(
        f"{source} cannot be read as a packed ESPnet model (member {shown(info.orig_filename)} is "
        f"damaged: {error}): fetch or pack it again"
    )


def _write(pack: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, source: str) -> None:
    """Write a member, whose size the archive may have misstated."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = info.file_size
    with _open(pack, info, source) as stream, open(target, "xb") as file:
        while block := _read(stream, 2**20, info, source):
            left -= len(block)
            if left < 0:
                break
            file.write(block)
    if left:
        raise _damaged(source, info, ValueError("its size is not the one that is stated"))
