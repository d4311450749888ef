"""Whether hours of audio in a row are enhanced as well as their pieces, each from a fresh start.

The recordings of a test set, one after another, over and over. In the folder of the recipe:

    PYTHONPATH=../../.. python -m tests.benchmarks.drift --data_dir dump/raw/test --hours 2
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import cycle
from statistics import fmean

import numpy as np
from tqdm import tqdm

from espnet2_tfckd.data.datadir import DataDir, read_data_dir
from espnet2_tfckd.data.entries import decibels, read_channel
from espnet2_tfckd.deploy.enhancer import Enhancer, load_enhancer
from espnet2_tfckd.deploy.pretrained import DEFAULT_MODEL
from espnet2_tfckd.scoring.metrics import si_sdr


def compare(
    enhancer: Enhancer, data: DataDir, hours: float
) -> Iterator[tuple[float, float, float, float]]:
    """Of every recording in a row: its start in hours, SI-SDR in the row and alone, both in dB, and
    the level in the row minus that alone, in dB."""
    rate, length = enhancer.sample_rate, 0
    order, row = cycle(sorted(data.mixture)), []
    mixtures, references, alone = {}, {}, {}
    while length < hours * 3600 * rate:
        row.append(next(order))
        if row[-1] not in alone:
            mixture, _ = read_channel(data.mixture[row[-1]], 0)
            mixtures[row[-1]] = mixture[:, None].astype(np.float32)
            references[row[-1]], _ = read_channel(data.reference[row[-1]], 0)
            alone[row[-1]] = np.concatenate(list(enhancer.enhance([mixtures[row[-1]]])))
        length += len(mixtures[row[-1]])
    blocks = tqdm((mixtures[name] for name in row), "enhancing", len(row))
    whole, start = np.concatenate(list(enhancer.enhance(blocks))), 0
    for name in tqdm(row, "scoring"):
        reference = references[name]
        estimates = whole[start : start + len(reference)], alone[name]
        scores = [si_sdr(reference, estimate.astype(np.float64), rate) for estimate in estimates]
        yield start / rate / 3600, *scores, decibels(estimates[0]) - decibels(estimates[1])
        start += len(reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(DEFAULT_MODEL), help="default: the one that ships")
    parser.add_argument("--data_dir", required=True, help="formatted test set")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--fs", type=int, help="rate in Hz of a model that does not state it")
    args = parser.parse_args()
    enhancer = load_enhancer(args.model, streaming=True, fs=args.fs)
    rows: dict[int, list[tuple[float, ...]]] = {}
    for start, *values in compare(enhancer, read_data_dir(args.data_dir), args.hours):
        rows.setdefault(int(2 * start), []).append(tuple(values))
    print(
        "| half an hour from | SI-SDR in the row (dB) | alone (dB) | level, row minus alone (dB) |"
    )
    print("| --- | --- | --- | --- |")
    for number, values in sorted(rows.items()):
        in_row, alone, level = (fmean(column) for column in zip(*values, strict=True))
        print(f"| {number / 2:.1f} h | {in_row:.2f} | {alone:.2f} | {level:+.2f} |")


if __name__ == "__main__":
    main()
