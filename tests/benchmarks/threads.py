"""How OpenMP's threads and waiting suit a training, alone and beside other work on the machine.

A training step of the mini recipe's teacher, with one thread and with one a core. Threads that wait
for each other spin for as long as libgomp lets them by default, always, never, or 1000 times, as
``local/path.sh`` has it. Beside them run no process, one that keeps a core busy, and one for every
core. The settings take turns, so that a machine whose speed drifts does not favour any of them.

Run it with ``python -m tests.benchmarks.threads``; some minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from espnet2_tfckd.models.cost import cpu_name
from espnet2_tfckd.processes import cpu_cores

BATCH, FRAMES, BINS = 8, 94, 257
WAITING = {
    "default": {},
    "ACTIVE": {"OMP_WAIT_POLICY": "ACTIVE"},
    "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "1000 spins": {"GOMP_SPINCOUNT": "1000"},
}


def step_seconds(steps: int) -> float:
    """Median wall time of a training step in this process, in seconds."""
    import torch

    from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator

    torch.manual_seed(0)
    network = DPDCRNSeparator(BINS, channels=32, blocks=2, heads=1)
    optimizer = torch.optim.AdamW(network.parameters())
    mixture = torch.randn(BATCH, FRAMES, BINS, dtype=torch.complex64)
    seconds = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        network(mixture, None)[0][0].abs().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def measure(threads: int, waiting: str, busy: int, steps: int) -> float:
    """The same in a process of its own with other settings, beside some busy ones."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        environment.pop(name, None)
    environment |= WAITING[waiting]
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        command = [sys.executable, "-m", "tests.benchmarks.threads", "--worker", str(steps)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    finally:
        for process in neighbours:
            process.kill()
            process.wait()
    return float(done.stdout.split()[-1])


def main() -> None:
    """Run the measurements from the command line."""
    cores = cpu_cores()
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.threads",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each setting is measured")
    parser.add_argument("--steps", type=int, default=8, help="training steps of a measurement")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(step_seconds(args.worker))
        return
    settings = [(1, "default"), *((cores, waiting) for waiting in WAITING)]
    times: dict[tuple, list[float]] = {}
    for _ in range(args.rounds):
        for busy in (0, 1, cores):
            for setting in settings:
                times.setdefault((*setting, busy), []).append(measure(*setting, busy, args.steps))
    print(f"{cpu_name()}, {cores} cores; seconds a step, median of {args.rounds} (all)")
    print("| threads | waiting | alone | 1 busy process | a busy process a core |")
    print("| --- | --- | --- | --- | --- |")
    for threads, waiting in settings:
        cells = []
        for busy in (0, 1, cores):
            values = times[threads, waiting, busy]
            shown = ", ".join(f"{value:.2f}" for value in values)
            cells.append(f"{statistics.median(values):.2f} ({shown})")
        print(f"| {threads} | {waiting} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
