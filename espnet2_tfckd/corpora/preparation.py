"""Making data directories once: in one process, and again if sources or options have changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from espnet2_tfckd.data.datadir import read_data_dir, source_files
from espnet2_tfckd.data.freshness import RECORD, change, made_of, read_record, write_record
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.data.paths import MARKER

SPLITS = ("train", "valid", "test")

REVISION = 1  # raised when the code makes other data of the same files


@contextmanager
def preparing(
    data_dir: Path,
    files: Iterable[Path],
    options: dict,
    names: Sequence[str] = SPLITS,
) -> Iterator[bool]:
    """Lock ``data_dir`` for this process, and say whether its data directories must be made.

    When the block has made them, it is recorded what they are made of. A corpus may have hundreds
    of gigabytes, so only size, times and inode of its files are compared here. The stages that read
    the audio compare its contents.

    Args:
        data_dir: Holds the data directories.
        files: Recordings, and all other files that they are made of.
        options: All options that change the result.
        names: Names of the data directories.

    Yields:
        Whether there is something to do; if so, the earlier record is removed first.

    Raises:
        RuntimeError: If another process is working on ``data_dir``.
        ValueError: If a data directory is there that this project did not write.
    """
    with only_one(data_dir):
        made = _to_prepare(data_dir, files, options, names)
        yield made is not None
        if made is not None:
            write_record(data_dir / RECORD, made)


def _to_prepare(
    data_dir: Path, files: Iterable[Path], options: dict, names: Sequence[str]
) -> dict | None:
    """What the data directories should be made of; None if they are up to date."""
    record = data_dir / RECORD
    before = read_record(record)
    code = {"revision": REVISION}
    made = made_of({str(path): path for path in files}, options, code, contents=False)
    reason = change(before, made)
    if not reason and not _are_whole(data_dir, names):
        reason = "some files are missing"
    if not reason:
        print("the data directories are up to date with these options")
        return None
    _refuse_others(data_dir, names)
    if before is not None:
        print(f"the data directories are made again: {reason}")
    record.unlink(missing_ok=True)
    return made


def _refuse_others(data_dir: Path, names: Sequence[str]) -> None:
    """Refuse data directories of others before any work is done; writing refuses them too."""
    for name in names:
        if (data_dir / name / "wav.scp").exists() and not (data_dir / name / MARKER).exists():
            raise ValueError(
                f"{data_dir / name} is a data directory that stage 1 did not write and would "
                "overwrite: give another --datadir, or leave stage 1 out with --stage 2 to use it"
            )


def _are_whole(data_dir: Path, names: Sequence[str]) -> bool:
    """Whether all data directories can be read and all their audio is there."""
    try:
        contents = [read_data_dir(data_dir / name) for name in names]
    except (ValueError, FileNotFoundError):
        return False
    return all(file.is_file() for data in contents for file in source_files(data))
