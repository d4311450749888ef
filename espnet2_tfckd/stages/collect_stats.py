"""Stage 5: write the lengths of all training and validation audio for ESPnet's trainer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from espnet2_tfckd.cli import at_least_one, atomic_write, run_command
from espnet2_tfckd.data.datadir import DataDir, raise_problems, read_data_dir
from espnet2_tfckd.data.entries import entry_shape
from espnet2_tfckd.data.freshness import RECORD, change, read_record, write_record
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.training.statistics import SHAPE_FILES, audio_made_of


def collect_stats(
    train_dir: str | Path, valid_dir: str | Path, stats_dir: str | Path, nj: int = 1
) -> str | None:
    """Write ``<stats_dir>/{train,valid}/speech_{mix,ref1}_shape``, which training needs.

    The lengths are those of the headers, which stage 3 has checked; ESPnet itself would read all
    audio in one process. If the files are there and belong to the same audio, nothing is done.
    ``<stats_dir>/made_of.json`` records the audio, so that training can identify its data.

    Args:
        train_dir: Data directory to train on.
        valid_dir: Data directory to validate on.
        stats_dir: Where the shape files go.
        nj: Number of threads.

    Returns:
        Why there was something to do; None if there was nothing.

    Raises:
        FileNotFoundError: If a data directory is missing.
        ValueError: If a data directory is damaged, or mixtures and references differ in length.
        RuntimeError: If another process is working on ``stats_dir``.
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
        for split, contents in data.items():
            shapes = _shapes(split, contents, nj)
            for name, shape_of in zip(SHAPE_FILES, shapes, strict=True):
                with atomic_write(stats_dir / split / name) as temporary:
                    lines = [f"{utterance} {shape}\n" for utterance, shape in shape_of.items()]
                    temporary.write_text("".join(lines), encoding="utf-8")
        write_record(record, now)
    return reason


def _shapes(split: str, data: DataDir, nj: int) -> tuple[dict[str, str], dict[str, str]]:
    """What ESPnet would write of mixtures and references: ``samples`` or ``samples,channels``."""
    problems: list[str] = []

    def shapes_of(utterance: str) -> tuple[str, str]:
        try:
            entries = data.mixture[utterance], data.reference[utterance]
            (frames, *mixture), (length, *reference) = map(entry_shape, entries)
        except (ValueError, OSError) as error:
            problems.append(f"{utterance}: {error}")
            return "", ""
        if frames != length:
            problems.append(
                f"{utterance}: the mixture has {frames} samples, the reference {length}"
            )
        return tuple(
            f"{frames},{channels}" if channels > 1 else str(frames)
            for channels, _ in (mixture, reference)
        )

    with ThreadPoolExecutor(nj) as pool:
        lengths = pool.map(shapes_of, data.mixture)
        rows = list(tqdm(lengths, f"lengths, {split}", len(data), delay=3))
    raise_problems(f"{split} set", sorted(problems))
    return tuple(
        {utterance: row[side] for utterance, row in zip(data.mixture, rows, strict=True)}
        for side in (0, 1)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`collect_stats`."""
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--train_dir", required=True, help="data directory to train on")
    parser.add_argument("--valid_dir", required=True, help="data directory to validate on")
    parser.add_argument("--stats_dir", required=True, help="directory to write")
    parser.add_argument("--nj", type=at_least_one, help="number of threads")
    options = parser.parse_args(arguments)
    reason = collect_stats(**vars(options)) or "up to date"
    print(f"statistics: {options.stats_dir} ({reason})")


if __name__ == "__main__":
    run_command(main)
