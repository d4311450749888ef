"""Stage 5: collect the lengths of all training and validation audio with ESPnet."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from espnet2_tfckd.cli import atomic_write, run_command
from espnet2_tfckd.datadir import raise_problems, read_data_dir
from espnet2_tfckd.stages.audio import fingerprint
from espnet2_tfckd.stages.espnet import data_arguments, only_one, run_logged

SHAPE_FILES = ("speech_mix_shape", "speech_ref1_shape")


def collect_stats(
    train_dir: str, valid_dir: str, stats_dir: str | Path, audio_format: str = "wav"
) -> bool:
    """Write ``<stats_dir>/{train,valid}/speech_{mix,ref1}_shape``, which training needs.

    Does nothing if they are there and the audio has not changed since.

    Args:
        train_dir: Data directory to train on.
        valid_dir: Data directory to validate on.
        stats_dir: Where the shape files go.
        audio_format: As of stage 3.

    Returns:
        Whether there was anything to do.

    Raises:
        FileNotFoundError: A data directory is missing.
        ValueError: A data directory is damaged, or mixtures and references differ in length.
        RuntimeError: ESPnet failed; the message names its log.
    """
    stats_dir = Path(stats_dir)
    data = {"train": read_data_dir(train_dir), "valid": read_data_dir(valid_dir)}
    state = "".join(f"{split} {fingerprint(data[split])}\n" for split in data)
    record = stats_dir / "input.sha256"
    if record.exists() and record.read_text() == state:
        return False
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
        with atomic_write(record) as temporary:
            temporary.write_text(state)
    return True


def _check(split_dir: Path, utterances: dict[str, str]) -> None:
    mixture, reference = (read_shapes(split_dir / name) for name in SHAPE_FILES)
    problems = [f"{utt} was not read" for utt in utterances if utt not in mixture]
    problems += [
        f"{utt}: the mixture has {length} samples, the reference {reference.get(utt)}"
        for utt, length in mixture.items()
        if length != reference.get(utt)
    ]
    raise_problems(f"{split_dir.name} set", problems)


def read_shapes(shape_file: Path) -> dict[str, int]:
    """Length in samples of each utterance in a shape file.

    Raises:
        FileNotFoundError: The file is not there.
    """
    if not shape_file.is_file():
        raise FileNotFoundError(f"{shape_file} is not there: run stage 5 first")
    rows = (line.split() for line in shape_file.read_text(encoding="utf-8").splitlines())
    return {utterance: int(shape.split(",")[0]) for utterance, shape in rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`collect_stats`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train_dir", required=True, help="data directory to train on")
    parser.add_argument("--valid_dir", required=True, help="data directory to validate on")
    parser.add_argument("--stats_dir", required=True, help="directory to write")
    parser.add_argument("--audio_format", default="wav", help="of stage 3")
    options = parser.parse_args(arguments)
    if not collect_stats(**vars(options)):
        print("the statistics are up to date")
    print(f"statistics: {options.stats_dir}")


if __name__ == "__main__":
    run_command(main)
