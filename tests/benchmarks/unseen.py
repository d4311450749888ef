"""What a model does to what it was not made for: clean speech, two talkers, noise alone, silence.

A test set of the mini recipe has all of these in it. In the folder of the recipe:

    PYTHONPATH=../../.. python -m tests.benchmarks.unseen --data_dir dump/extended/raw/test
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import fmean

import numpy as np
from tqdm import tqdm

from espnet2_tfckd.data.datadir import DataDir, read_data_dir
from espnet2_tfckd.data.entries import decibels, read_channel
from espnet2_tfckd.deploy.enhancer import Enhancer, load_enhancer
from espnet2_tfckd.deploy.pretrained import DEFAULT_MODEL
from espnet2_tfckd.scoring.metrics import pesq_wb, si_sdr

KINDS = ("clean speech", "two talkers at once")


def signals(data: DataDir, utterances: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Kind and samples (T,) of what is enhanced."""
    before = None
    for utterance in utterances:
        mixture, _ = read_channel(data.mixture[utterance], 0)
        reference, _ = read_channel(data.reference[utterance], 0)
        yield KINDS[0], reference
        if before is not None:
            length = min(len(before), len(reference))
            yield KINDS[1], before[:length] + reference[:length]
        yield f"noise alone: {data.metadata[utterance]['noise_kind']}", mixture - reference
        before = reference
    yield "silence", np.zeros(len(reference))


def enhanced(enhancer: Enhancer, signal: np.ndarray) -> np.ndarray:
    """(T,) to (T,)."""
    blocks = enhancer.enhance([signal[:, None].astype(np.float32)])
    return np.concatenate(list(blocks)).astype(np.float64)


def measure(enhancer: Enhancer, data: DataDir, count: int) -> dict[str, list[tuple[float, ...]]]:
    """By kind: level of output to input in dB, and of speech SI-SDR and PESQ-WB to the input."""
    utterances = sorted(data.mixture)[:: max(1, len(data) // count)][:count]
    rows: dict[str, list[tuple[float, ...]]] = {}
    for kind, signal in tqdm(signals(data, utterances), "enhancing"):
        estimate, rate = enhanced(enhancer, signal), enhancer.sample_rate
        values = [decibels(estimate) - decibels(signal)]
        if kind in KINDS:
            values += [metric(signal, estimate, rate) for metric in (si_sdr, pesq_wb)]
        rows.setdefault(kind, []).append(tuple(values))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(DEFAULT_MODEL), help="default: the one that ships")
    parser.add_argument("--data_dir", required=True, help="formatted test set of the mini recipe")
    parser.add_argument("--num_utterances", type=int, default=40, help="spread over the set")
    args = parser.parse_args()
    rows = measure(load_enhancer(args.model), read_data_dir(args.data_dir), args.num_utterances)
    print("| input | signals | level change (dB) | SI-SDR to the input (dB) | PESQ-WB to it |")
    print("| --- | --- | --- | --- | --- |")
    for kind, values in sorted(rows.items()):
        level, *others = (fmean(column) for column in zip(*values, strict=True))
        shown = f"{others[0]:.1f} | {others[1]:.2f}" if others else " | "
        print(f"| {kind} | {len(values)} | {level:.1f} | {shown} |")


if __name__ == "__main__":
    main()
