"""Stage 5: collect the lengths of all training and validation audio with ESPnet."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.data.datadir import raise_problems, read_data_dir
from espnet2_tfckd.data.freshness import RECORD, change, read_record, write_record
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.training.process import data_arguments, run_logged
from espnet2_tfckd.training.statistics import SHAPE_FILES, audio_made_of, read_shapes


def collect_stats(
    train_dir: str, valid_dir: str, stats_dir: str | Path, audio_format: str = "wav"
) -> str | None:
    """Write ``<stats_dir>/{train,valid}/speech_{mix,ref1}_shape``, which training needs.

    If they are there and belong to the same audio, nothing is done. ``<stats_dir>/made_of.json``
    records the audio, so that training can identify its data.

    Args:
        train_dir: Data directory to train on.
        valid_dir: Data directory to validate on.
        stats_dir: Where the shape files go.
        audio_format: As of stage 3.

    Returns:
        Why there was something to do; None if there was nothing.

    Raises:
        FileNotFoundError: If a data directory is missing.
        ValueError: If a data directory is damaged, or mixtures and references differ in length.
        RuntimeError: If ESPnet fails; the message names its log.
    """
    stats_dir = Path(stats_dir)
    data = {"train": read_data_dir(train_dir), "valid": read_data_dir(valid_dir)}
    record = stats_dir / RECORD
    before = read_record(record)
    now = audio_made_of(data, before)
    reason = change(before, now)
    if not reason and not all(
        (stats_dir / split / name).exists() for split in data for name in SHAPE_FILES
    ):
        reason = "shape files are gone"
    if not reason:
        write_record(record, now)  # so that files that were only touched are not read again
        return None
    with only_one(stats_dir):
        record.unlink(missing_ok=True)
        partial = stats_dir / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        command = ["-m", "espnet2_tfckd.bin.enh_train", "--collect_stats", "true"]
        command += ["--model_conf", "extract_feats_in_collect_stats=false"]
        command += ["--output_dir", str(partial), "--num_workers", "0"]
        command += data_arguments(train_dir, valid_dir, audio_format)
        run_logged(command, stats_dir / "collect_stats.log", lambda line: None)
        for split, contents in data.items():
            _check(partial / split, contents.mixture)
            shutil.rmtree(stats_dir / split, ignore_errors=True)
            os.replace(partial / split, stats_dir / split)
        shutil.rmtree(partial)
        write_record(record, now)
    return reason


def _check(split_dir: Path, utterances: dict[str, str]) -> None:
    mixture, reference = (read_shapes(split_dir / name) for name in SHAPE_FILES)
    problems = [f"{utt} was not read" for utt in utterances if utt not in mixture]
    problems += [
        f"{utt}: the mixture has {length} samples, the reference {reference.get(utt)}"
        for utt, length in mixture.items()
        if length != reference.get(utt)
    ]
    raise_problems(f"{split_dir.name} set", problems)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`collect_stats`."""
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--train_dir", required=True, help="data directory to train on")
    parser.add_argument("--valid_dir", required=True, help="data directory to validate on")
    parser.add_argument("--stats_dir", required=True, help="directory to write")
    parser.add_argument("--audio_format", help="of stage 3")
    options = parser.parse_args(arguments)
    reason = collect_stats(**vars(options)) or "up to date"
    print(f"statistics: {options.stats_dir} ({reason})")


if __name__ == "__main__":
    run_command(main)
