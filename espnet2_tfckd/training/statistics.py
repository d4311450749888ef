"""The results of stage 5: the lengths of all audio, and which audio that was."""

from __future__ import annotations

from pathlib import Path

from espnet2_tfckd.data.datadir import DataDir, read_data_dir
from espnet2_tfckd.data.freshness import (
    RECORD,
    audio_of,
    change,
    content_digest,
    made_of,
    read_record,
)

SHAPE_FILES = ("speech_mix_shape", "speech_ref1_shape")


def audio_made_of(data: dict[str, DataDir], before: dict | None) -> dict:
    """The present audio of data directories, by ``<split> <utterance> <kind>``.

    Args:
        data: Data directory by split.
        before: The same at an earlier time, see :func:`espnet2_tfckd.data.freshness.made_of`.
    """
    files = {
        f"{split} {name}": path
        for split, contents in data.items()
        for name, path in audio_of(contents).items()
    }
    return made_of(files, before=before)


def read_shapes(shape_file: Path) -> dict[str, int]:
    """Length in samples of each utterance in a shape file.

    Raises:
        FileNotFoundError: If the file is not there.
    """
    if not shape_file.is_file():
        raise FileNotFoundError(f"{shape_file} is not there: run stage 5 first")
    rows = (line.split() for line in shape_file.read_text(encoding="utf-8").splitlines())
    return {utterance: int(shape.split(",")[0]) for utterance, shape in rows}


def data_digests(train_dir: str | Path, valid_dir: str | Path, stats_dir: Path) -> dict[str, str]:
    """Identify the audio of a training and a validation set by digests.

    Returns:
        Digests of the contents, ``train data`` and ``valid data``.

    Raises:
        FileNotFoundError: If a data directory or the record of stage 5 is not there.
        ValueError: If the audio is not that of stage 5.
    """
    before = read_record(stats_dir / RECORD)
    if before is None:
        raise FileNotFoundError(f"{stats_dir / RECORD} is not there: run stage 5 first")
    data = {"train": read_data_dir(train_dir), "valid": read_data_dir(valid_dir)}
    now = audio_made_of(data, before)
    if reason := change(before, now):
        raise ValueError(f"{stats_dir} is of other audio ({reason}): run stage 5 again")
    return {f"{split} data": content_digest(now, f"{split} ") for split in data}
