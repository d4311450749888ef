"""Whether data directories are still made of the same recordings, options and code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from espnet2_tfckd.data.freshness import RECORD, change, made_of, read_record
from espnet2_tfckd.data.paths import MARKER
from espnet2_tfckd.datadir import read_data_dir, source_files

SETS = ("train", "valid", "test")


def to_prepare(
    data_dir: Path, files: Iterable[Path], options: dict, revision: int = 1
) -> dict | None:
    """Say whether the data directories below ``data_dir`` are to be made, and of what.

    A corpus may have hundreds of gigabytes: of its files, size, times and inode count here. The
    stages that read the audio compare its contents.

    Args:
        data_dir: Holds ``train``, ``valid`` and ``test``.
        files: Recordings, and whatever else they are made of.
        options: All options that matter.
        revision: Of the code that makes them; raised when it makes others.

    Returns:
        What to pass to :func:`espnet2_tfckd.data.freshness.write_record`, as ``data_dir /
        RECORD``, when they are made; None if they are up to date. The earlier record is gone then.

    Raises:
        ValueError: If a data directory is there that this project did not write.
    """
    record = data_dir / RECORD
    before = read_record(record)
    made = made_of(
        {str(path): path for path in files}, options, {"revision": revision}, contents=False
    )
    reason = change(before, made)
    if not reason and not _are_whole(data_dir):
        reason = "not all is there any more"
    if not reason:
        print("the data directories are up to date with these options")
        return None
    _refuse_others(data_dir)
    if before is not None:
        print(f"the data directories are made anew: {reason}")
    record.unlink(missing_ok=True)
    return made


def _refuse_others(data_dir: Path) -> None:
    """Before any work is done; writing refuses them too."""
    for name in SETS:
        if (data_dir / name / "wav.scp").exists() and not (data_dir / name / MARKER).exists():
            raise ValueError(
                f"{data_dir / name} is a data directory that stage 1 did not write and would "
                "overwrite: give another --datadir, or leave stage 1 out with --stage 2 to use it"
            )


def _are_whole(data_dir: Path) -> bool:
    """Whether the three data directories can be read and all their audio is there."""
    try:
        contents = [read_data_dir(data_dir / name) for name in SETS]
    except (ValueError, FileNotFoundError):
        return False
    return all(file.is_file() for data in contents for file in source_files(data))
