"""Keeping what a user has: outputs that touch inputs are refused, only own folders are emptied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

MARKER = ".made_by_espnet2_tfckd"
_REMEDY = "name another output"


def refuse_overlap(output: str | Path, inputs: Iterable[str | Path]) -> None:
    """Refuse an output that is an input, holds one or lies in one.

    Links are followed, and names of one file are told by its inode, not by their spelling.

    Args:
        output: File or folder to be written; need not exist.
        inputs: Files and folders to be read; those that do not exist are passed over.

    Raises:
        ValueError: If the output is, holds or lies in an input; both are named.
    """
    target = Path(os.path.realpath(output))
    above = [path for path in (target, *target.parents) if path.exists()]
    identities = {_identity(path): path for path in above}
    own = _identity(target) if target.exists() else None
    for source in dict.fromkeys(inputs):
        if not os.path.exists(source):
            continue
        real = Path(os.path.realpath(source))
        identity = _identity(real)
        if identity == own:
            raise ValueError(f"the output {output} is the input {source}: {_REMEDY}")
        if identity in identities:
            raise ValueError(f"the output {output} lies in the input {source}: {_REMEDY}")
        if target in real.parents:
            raise ValueError(f"the output {output} holds the input {source}: {_REMEDY}")


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def make_own_folder(folder: str | Path, inputs: Iterable[str | Path] = ()) -> Path:
    """Make an empty folder for what this project writes; an own one that is there is emptied.

    Args:
        folder: The folder. A marker file in it says that this project made it.
        inputs: Files and folders that are still to be read.

    Raises:
        ValueError: If the folder is, holds or lies in an input, or holds files and no marker.
    """
    folder = Path(folder)
    refuse_overlap(folder, inputs)
    if folder.is_dir() and not (folder / MARKER).is_file() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} holds files that this command did not write: move or remove the folder, or "
            "choose another place for the output"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("The program that made this folder may empty it.\n")
    for path in folder.iterdir():  # the folder itself may be a link
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()
    return folder
