"""Protecting a user's files: outputs must not touch inputs; only our own folders are emptied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

MARKER = ".made_by_espnet2_tfckd"
MARKER_TEXT = "The program that made this folder may empty it.\n"
_REMEDY = "name another output"


def refuse_overlap(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Refuse outputs that are an input, contain one or lie in one.

    Links are followed. Two names that share an inode mean the same file.

    Args:
        outputs: Files and folders to be written; they need not exist.
        inputs: Files and folders to be read; those that do not exist are skipped.

    Raises:
        ValueError: If an output is, contains or lies in an input; the message names both.
    """
    identities: dict[tuple[int, int] | None, str | Path] = {}
    holders: dict[Path, str | Path] = {}
    for source in inputs:
        if identity := _identity(source):
            identities.setdefault(identity, source)
            for folder in Path(os.path.realpath(source)).parents:
                if folder in holders:
                    break
                holders[folder] = source
    known: dict[Path, str | Path | None] = {}  # the input that a folder is or lies in
    for output in outputs:
        target = Path(os.path.realpath(output))
        if source := identities.get(_identity(target)):
            raise ValueError(f"the output {output} is the input {source}: {_REMEDY}")
        if source := _around(target.parent, identities, known):
            raise ValueError(f"the output {output} lies in the input {source}: {_REMEDY}")
        if source := holders.get(target):
            raise ValueError(f"the output {output} holds the input {source}: {_REMEDY}")


def _around(
    folder: Path,
    identities: dict[tuple[int, int] | None, str | Path],
    known: dict[Path, str | Path | None],
) -> str | Path | None:
    if folder not in known:
        source = identities.get(_identity(folder))
        is_top = folder == folder.parent
        known[folder] = source or (None if is_top else _around(folder.parent, identities, known))
    return known[folder]


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What identifies a file whatever its name; None if it is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def make_own_folder(folder: str | Path, inputs: Iterable[str | Path] = ()) -> Path:
    """Make an empty folder for output; if this project made it earlier, empty it.

    Args:
        folder: The folder. A marker file in it says that this project made it.
        inputs: Files and folders that are still to be read.

    Raises:
        ValueError: If the folder is, contains or lies in an input, or holds files but no marker.
    """
    folder = Path(folder)
    refuse_overlap([folder], inputs)
    if folder.is_dir() and not (folder / MARKER).is_file() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} holds files that this command did not write: move or remove the folder, or "
            "choose another place for the output"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text(MARKER_TEXT, encoding="utf-8")
    for path in folder.iterdir():  # the folder itself may be a link
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()
    return folder
