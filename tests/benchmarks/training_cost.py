"""``make bench``: what training steps and distillation losses cost, on one thread.

Four measurements: networks and I2SRF-TFCKD beside their literal transcriptions; I2SRF-TFCKD beside
its authors' code, where that is given; the loss of every scheme beside the own training step of the
student; a frame of the exported streaming student. What
is compared is timed in turn, pair by pair in one run, so that the ratios hold on a machine whose
speed drifts. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from espnet2_tfckd.models.cost import cpu_name
from tests.benchmarks.measuring import ROOT, median_ratio, memory, untrained_student

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


def distillation_step(config: Path, literal: bool = False, published: Path | None = None):
    """A function that runs forward and backward of a distillation loss at the paper's sizes."""
    import torch
    import yaml

    from espnet2_tfckd.distiller.abs_distiller import Sizes
    from espnet2_tfckd.distiller.registry import distillers
    from tests.distiller.features import random_inputs, shapes
    from tests.oracles.i2srf_tfckd import NaiveI2SRFTFCKD

    torch.manual_seed(0)
    student_shapes, teacher_shapes = (
        shapes(*SIZES[role], bins=BINS) for role in ("student", "teacher")
    )
    student = random_inputs(student_shapes, BATCH, FRAMES, seed=1)
    teacher = random_inputs(teacher_shapes, BATCH, FRAMES, seed=2).detach()
    sizes = (student_shapes, teacher_shapes, FRAMES, BATCH)
    settings = yaml.safe_load(config.read_text())
    scheme = distillers()[settings["distiller"]]
    product = scheme(Sizes(*sizes), **settings.get("distiller_conf", {}))
    if not (literal or published):
        return lambda: product(student, teacher)[0].backward()
    if literal:
        other = NaiveI2SRFTFCKD(*sizes).weights_of(product)
    else:
        from tests.benchmarks.published import PublishedLoss

        other = PublishedLoss(published, *sizes).weights_of(product)
    torch.testing.assert_close(other(student, teacher), product(student, teacher)[0])
    return lambda: other(student, teacher).backward()


CONF = ROOT / "conf"
CONFIGURATIONS = {
    path.stem.removeprefix("distill_"): path
    for path in [CONF / "distill_i2srf_tfckd.yaml", *sorted(CONF.glob("tuning/distill_*.yaml"))]
}
STUDENT_STEP = f"training step, student (C=64, N=1, B={BATCH})"
TRANSCRIBED = {
    "training step, student (C=64, N=1, B=4)": lambda literal: network_step("student", literal, 4),
    "training step, teacher (C=128, N=4, B=4)": lambda literal: network_step("teacher", literal, 4),
    "I2SRF-TFCKD loss (C=64 from C=128, B=8)": lambda literal: distillation_step(
        CONFIGURATIONS["i2srf_tfckd"], literal
    ),
}


def build(case: str, literal: bool = False):
    """What to time: a case of ``TRANSCRIBED``, the student's step, or a distillation loss."""
    if case in TRANSCRIBED:
        return TRANSCRIBED[case](literal)
    if case == STUDENT_STEP:
        return network_step("student", False, BATCH)
    return distillation_step(CONFIGURATIONS[case])


def timed_in_turn(steps: dict, runs: int) -> dict[str, list[float]]:
    """Seconds of each function, run in turn after one uncounted call."""
    times = {name: [] for name in steps}
    for run in range(runs + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if run:
                times[name].append(time.perf_counter() - start)
    return times


def measure_transcribed(case: str, runs: int) -> dict:
    """Product and transcription: times in seconds and peak memory in MB."""
    steps = {name: build(case, name == "literal") for name in ("product", "literal")}
    times = timed_in_turn(steps, runs)
    return {
        "case": case,
        "runs": runs,
        "seconds": statistics.median(times["product"]),
        "literal_seconds": statistics.median(times["literal"]),
        "speedup": median_ratio(times["literal"], times["product"]),
        "peak_mb": peak_memory(case),
        "literal_peak_mb": peak_memory(case, literal=True),
    }


def report_published(path: Path, runs: int) -> dict:
    """The loss beside its authors' code, with the same weights and values: times in seconds."""
    config = CONFIGURATIONS["i2srf_tfckd"]
    steps = {
        "published": distillation_step(config, published=path),
        "product": distillation_step(config),
    }
    times = timed_in_turn(steps, runs)
    row = {name: statistics.median(seconds) for name, seconds in times.items()}
    row["speedup"] = median_ratio(times["published"], times["product"])
    print(
        f"\nI2SRF-TFCKD loss (C=64 from C=128, B={BATCH}): authors' {row['published']:.2f} s, "
        f"product {row['product']:.2f} s, ratio {row['speedup']:.2f}",
        flush=True,
    )
    return row


def measure_distillation(name: str, runs: int) -> dict:
    """A distillation loss and the student's step: times in seconds and peak memory in MB."""
    times = timed_in_turn({case: build(case) for case in (name, STUDENT_STEP)}, runs)
    return {
        "distillation": name,
        "runs": runs,
        "seconds": statistics.median(times[name]),
        "student_step_seconds": statistics.median(times[STUDENT_STEP]),
        "relative_to_student_step": median_ratio(times[name], times[STUDENT_STEP]),
        "peak_mb": peak_memory(name),
    }


def peak_memory(case: str, literal: bool = False) -> int:
    """Memory that one step adds to a process that holds the network and its input, in MB."""
    command = [sys.executable, "-m", "tests.benchmarks.training_cost", "--peak", case]
    output = subprocess.run(
        command + (["--literal"] if literal else []), capture_output=True, text=True, check=True
    )
    return int(output.stdout.split()[-1])


def print_peak(case: str, literal: bool) -> None:
    step = build(case, literal)
    before = memory("VmRSS")
    step()
    print((memory("VmHWM") - before) // 1024)


def report_transcribed(runs: int) -> list[dict]:
    print("| one thread | literal | product | ratio | literal MB | product MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for case in TRANSCRIBED:
        row = measure_transcribed(case, runs)
        rows.append(row)
        print(
            f"| {case} | {row['literal_seconds']:.2f} s | {row['seconds']:.2f} s | "
            f"{row['speedup']:.2f} | {row['literal_peak_mb']} | {row['peak_mb']} |",
            flush=True,
        )
    return rows


def report_distillations(runs: int, names: list[str]) -> list[dict]:
    print(f"\n| loss (C=64 from C=128, B={BATCH}) | seconds | of the student's step | MB |")
    print("| --- | --- | --- | --- |")
    rows = []
    for name in names:
        row = measure_distillation(name, runs)
        rows.append(row)
        print(
            f"| {name} | {row['seconds']:.2f} | {row['relative_to_student_step']:.2f} | "
            f"{row['peak_mb']} |",
            flush=True,
        )
    return rows


def measure_streaming(channels: int, heads: int, minutes: float) -> dict:
    """A causal student of one block, exported: milliseconds a frame of 16 ms in onnxruntime."""
    import numpy as np

    from espnet2_tfckd.deploy.onnx_enhance import ExportedModel
    from espnet2_tfckd.deploy.onnx_export import export_onnx
    from espnet2_tfckd.models.configuration import Rate

    model = untrained_student(channels, heads)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        meta = export_onnx(model, folder, Rate(16000, stated=True))
        enhancer = ExportedModel(folder)
        milliseconds = []
        for _ in range(int(minutes * 60 * 16000 / 256)):
            frame = rng.standard_normal((1, 1, BINS)) + 1j * rng.standard_normal((1, 1, BINS))
            start = time.perf_counter()
            enhancer.step(frame)
            milliseconds.append(1000 * (time.perf_counter() - start))
    return {
        "channels": channels,
        "num_params": meta["num_params"],
        "frames": len(milliseconds),
        "median_ms": statistics.median(milliseconds),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "latency_ms": meta["latency_ms"],
        "max_difference": meta["models"]["streaming"]["max_difference"],
    }


def report_streaming(minutes: float) -> list[dict]:
    print(f"\n| a frame of 16 ms, {minutes:g} min of audio | median ms | 99 % ms | parameters |")
    print("| --- | --- | --- | --- |")
    rows = []
    for channels, heads in ((64, 4), (16, 1)):
        row = measure_streaming(channels, heads, minutes)
        rows.append(row)
        print(
            f"| causal student, C={channels}, N=1 | {row['median_ms']:.2f} | {row['p99_ms']:.2f} | "
            f"{row['num_params']:,} |",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted pairs of each case")
    parser.add_argument(
        "--distillations",
        nargs="*",
        choices=CONFIGURATIONS,
        default=list(CONFIGURATIONS),
        help="losses to compare with the student's step (default: all of conf/)",
    )
    parser.add_argument(
        "--published", type=Path, help="the authors' I2S_TFCKD_demo.py, to set the loss beside it"
    )
    parser.add_argument("--minutes", type=float, default=10, help="audio of the streaming case")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--literal", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(arguments.peak, arguments.literal)
        return
    import torch

    results = {
        "machine": {
            "processor": cpu_name(),
            "torch": torch.__version__,
        },
        "transcribed": report_transcribed(arguments.runs),
        "published": report_published(arguments.published, arguments.runs)
        if arguments.published
        else None,
        "streaming": report_streaming(arguments.minutes),
        "distillations": report_distillations(arguments.runs, arguments.distillations),
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nmedians of {arguments.runs} pairs; figures are in {arguments.output}")


if __name__ == "__main__":
    main()
