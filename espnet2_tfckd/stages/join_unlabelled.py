"""End of stage 6: recordings join the training set, with a teacher's estimates as references."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.data.datadir import (
    DataDir,
    raise_problems,
    read_data_dir,
    read_scp,
    write_data_dir,
)
from espnet2_tfckd.data.entries import decibels, entry_seconds, read_channel, signal_fault
from espnet2_tfckd.data.locking import only_one


def join_unlabelled(
    train_dir: str | Path, unlabelled_dir: str | Path, estimates: str | Path, out_dir: str | Path
) -> int:
    """Write a data directory of the training set and of recordings that a teacher has enhanced.

    The teacher's estimates are the references of the recordings. What it took out, the difference
    of the two, is their noise for ``--remix_snr``, which then mixes estimated speech with
    estimated noise of other recordings.

    Args:
        train_dir: Formatted data directory with references.
        unlabelled_dir: Formatted data directory of recordings.
        estimates: scp of the teacher's estimates of these, by the same ids.
        out_dir: Data directory to write; audio stays where it is.

    Returns:
        How many recordings joined.

    Raises:
        FileNotFoundError: If a data directory or the scp is missing.
        ValueError: If recordings have no estimate, or the teacher finds no speech in any.
        RuntimeError: If another process is working on ``out_dir``.

    References:
        E. Tzinis et al., "Continual self-training with bootstrapped remixing for speech
        enhancement", ICASSP 2022 (arXiv 2110.10103).
    """
    train, recordings = read_data_dir(train_dir), read_data_dir(unlabelled_dir)
    found = read_scp(estimates)
    missing = [f"{u} has no estimate in {estimates}" for u in recordings.mixture if u not in found]
    twice = [f"{u} is in {train_dir} too" for u in recordings.mixture if u in train.mixture]
    raise_problems(str(unlabelled_dir), missing + twice)
    usable, ratios, seconds = [], [], 0.0
    for utterance, entry in recordings.mixture.items():
        mixture, _ = read_channel(entry, 0)
        estimate, _ = read_channel(found[utterance], 0)
        if signal_fault(estimate) is None:
            usable.append(utterance)
            seconds += entry_seconds(entry)
            ratios.append(decibels(estimate) - decibels(mixture - estimate))
    if not usable:
        raise ValueError(
            f"{unlabelled_dir}: the teacher's estimates are all silent, so that nothing can be "
            "learnt from them: take recordings of speech, or another teacher"
        )
    joining = recordings.subset(usable)
    joining.reference = {utterance: found[utterance] for utterance in usable}
    tables = zip(vars(train).items(), vars(joining).values(), strict=True)
    joined = DataDir(**{name: ours | theirs for (name, ours), theirs in tables})
    joined.metadata = {}  # recordings have none
    with only_one(out_dir):
        write_data_dir(out_dir, joined)
    silent = len(recordings) - len(usable)
    print(
        f"{len(usable)} recordings ({seconds / 60:.1f} minutes) join {len(train)} utterances; in "
        f"{silent} more the teacher hears no speech. Speech to noise, as it hears them: "
        f"{median(ratios):.1f} dB (median)"
    )
    return len(usable)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`join_unlabelled`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train_dir", required=True, help="formatted, with references")
    parser.add_argument("--unlabelled_dir", required=True, help="formatted, of recordings")
    parser.add_argument("--estimates", required=True, help="scp of the teacher's estimates")
    parser.add_argument("--out_dir", required=True, help="data directory to write")
    join_unlabelled(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    run_command(main)
