"""Stage 4: leave out utterances that are too short or too long."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.data.datadir import raise_problems, read_data_dir, write_data_dir
from espnet2_tfckd.data.entries import entry_seconds
from espnet2_tfckd.data.locking import only_one


def filter_data_dir(
    in_dir: str | Path, out_dir: str | Path, min_wav_duration: float, max_wav_duration: float
) -> int:
    """Copy a data directory without the utterances outside a range of durations (in seconds).

    Returns:
        Number of utterances dropped.

    Raises:
        FileNotFoundError: If ``in_dir`` is not a data directory.
        ValueError: If the range is empty, audio is unreadable (the message lists all), or nothing
            is left.
        RuntimeError: If another process is working on ``out_dir``.
    """
    if not 0 <= min_wav_duration < max_wav_duration:
        raise ValueError(
            f"min_wav_duration {min_wav_duration} must be below max_wav_duration {max_wav_duration}"
        )
    data = read_data_dir(in_dir)
    seconds, problems = {}, []
    for utterance, entry in tqdm(data.mixture.items(), f"filtering {in_dir}"):
        try:
            seconds[utterance] = entry_seconds(entry)
        except (ValueError, OSError) as error:
            problems.append(f"{utterance}: {error}")
    raise_problems(str(in_dir), problems)
    kept = [u for u, value in seconds.items() if min_wav_duration <= value <= max_wav_duration]
    if not kept:
        shortest, longest = min(seconds.values()), max(seconds.values())
        raise ValueError(
            f"{in_dir}: no utterance lasts {min_wav_duration} to {max_wav_duration} s (they last "
            f"{shortest:.2f} to {longest:.2f} s): change --min_wav_duration or --max_wav_duration"
        )
    with only_one(out_dir):
        write_data_dir(out_dir, data.subset(kept))
    return len(data) - len(kept)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`filter_data_dir`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("in_dir", help="data directory to read")
    parser.add_argument("out_dir", help="data directory to write")
    parser.add_argument("--min_wav_duration", type=float, required=True, help="in seconds")
    parser.add_argument("--max_wav_duration", type=float, required=True, help="in seconds")
    options = parser.parse_args(arguments)
    dropped = filter_data_dir(**vars(options))
    print(f"dropped {dropped} utterances; filtered data directory: {options.out_dir}")


if __name__ == "__main__":
    run_command(main)
