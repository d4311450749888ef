"""``make bench``: what a training step and the distillation loss cost, on one thread.

Each product is timed in turn with its literal transcription, pair by pair in one run, so that the
ratios hold on a machine whose speed drifts. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

BATCH, FRAMES, BINS = 8, 125, 257
SIZES = {"teacher": (128, 4), "student": (64, 1)}


def network_step(role: str, literal: bool, batch: int):
    """A function that runs forward and backward of one network."""
    import torch

    from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator
    from tests.oracles.dpdcrn import NaiveDPDCRN

    torch.manual_seed(0)
    channels, blocks = SIZES[role]
    product = DPDCRNSeparator(BINS, channels=channels, blocks=blocks)
    mixture = torch.randn(batch, FRAMES, BINS, dtype=torch.complex64)
    if not literal:
        return lambda: product(mixture, None)[0][0].abs().mean().backward()
    oracle = NaiveDPDCRN(channels, blocks)
    oracle.load_state_dict(product.state_dict())
    stacked = torch.stack([mixture.real, mixture.imag], 1)
    return lambda: oracle(stacked)[0].abs().mean().backward()


def distillation_step(literal: bool):
    """A function that runs forward and backward of the distillation loss at the paper's sizes."""
    import torch

    from espnet2_tfckd.distiller.i2srf_tfckd import I2SRFTFCKDDistiller
    from tests.distiller.features import random_inputs, shapes
    from tests.oracles.i2srf_tfckd import NaiveI2SRFTFCKD

    torch.manual_seed(0)
    student_shapes, teacher_shapes = (
        shapes(*SIZES[role], bins=BINS) for role in ("student", "teacher")
    )
    student = random_inputs(student_shapes, BATCH, FRAMES, seed=1)
    teacher = random_inputs(teacher_shapes, BATCH, FRAMES, seed=2).detach()
    sizes = (student_shapes, teacher_shapes, FRAMES, BATCH)
    product = I2SRFTFCKDDistiller(*sizes)
    if not literal:
        return lambda: product(student, teacher)[0].backward()
    oracle = NaiveI2SRFTFCKD(*sizes).weights_of(product)
    return lambda: oracle(student, teacher).backward()


CASES = {
    "training step, student (C=64, N=1, B=4)": (network_step, ("student",), (4,)),
    "training step, teacher (C=128, N=4, B=4)": (network_step, ("teacher",), (4,)),
    "I2SRF-TFCKD loss (C=64 from C=128, B=8)": (distillation_step, (), ()),
}


def build(case: str, literal: bool):
    factory, before, after = CASES[case]
    return factory(*before, literal, *after)


def measure(case: str, runs: int) -> dict:
    """Times of product and transcription in seconds, run in turn, and their peak memory in MB."""
    steps = {name: build(case, name == "literal") for name in ("product", "literal")}
    for step in steps.values():
        step()
    times = {name: [] for name in steps}
    for _ in range(runs):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(times["product"], times["literal"], strict=True)]
    return {
        "case": case,
        "runs": runs,
        "seconds": statistics.median(times["product"]),
        "literal_seconds": statistics.median(times["literal"]),
        "speedup": statistics.median(ratios),
        "peak_mb": peak_memory(case, literal=False),
        "literal_peak_mb": peak_memory(case, literal=True),
    }


def peak_memory(case: str, literal: bool) -> int:
    """Memory that one step adds to a process that holds the network and its input, in MB."""
    command = [sys.executable, "-m", "tests.bench", "--peak", case]
    output = subprocess.run(
        command + (["--literal"] if literal else []), capture_output=True, text=True, check=True
    )
    return int(output.stdout.split()[-1])


def print_peak(case: str, literal: bool) -> None:
    step = build(case, literal)
    before = memory("VmRSS")
    step()
    print((memory("VmHWM") - before) // 1024)


def memory(field: str) -> int:
    """Memory of this process in kB: VmRSS, now, or VmHWM, at its highest.

    Read from Linux itself, since getrusage counts what the parent had before it started us.
    """
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted pairs of each case")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    parser.add_argument("--peak", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--literal", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(arguments.peak, arguments.literal)
        return
    import torch

    rows = []
    print("| one thread | literal | product | ratio | literal MB | product MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        row = measure(case, arguments.runs)
        rows.append(row)
        print(
            f"| {case} | {row['literal_seconds']:.2f} s | {row['seconds']:.2f} s | "
            f"{row['speedup']:.2f} | {row['literal_peak_mb']} | {row['peak_mb']} |",
            flush=True,
        )
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    arguments.output.write_text(json.dumps({"machine": machine, "cases": rows}, indent=2) + "\n")
    print(f"medians of {arguments.runs} pairs; figures are in {arguments.output}")


if __name__ == "__main__":
    main()
