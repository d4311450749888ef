"""What the benchmarks share: memory of a process, ratios of times, an untrained student."""

from __future__ import annotations

import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]


def memory(field: str) -> int:
    """Memory of this process in kB: VmRSS, now, or VmHWM, at its highest.

    Read from Linux itself, since getrusage counts what the parent had before it started us.
    """
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def median_ratio(times: list[float], to: list[float]) -> float:
    """Median of the ratios of times that were taken in turn."""
    return statistics.median(a / b for a, b in zip(times, to, strict=True))


def untrained(config: str, *options: str):
    """A network of the mini recipe's ``conf/tuning``, changed by ESPnet's options, seed 0."""
    import torch

    from espnet2_tfckd.training.task import EnhancementTask

    path = ROOT / f"egs2/mini/enh1/conf/tuning/{config}.yaml"
    parser = EnhancementTask.get_parser()
    args = parser.parse_args(["--config", str(path), "--output_dir", ".", *options])
    torch.manual_seed(0)
    return EnhancementTask.build_model(args)


def untrained_student(channels: int, heads: int):
    """The mini recipe's causal student of one block, with other sizes and random weights."""
    sizes = ["--separator_conf", f"channels={channels}", "--separator_conf", f"heads={heads}"]
    return untrained("student_causal", *sizes)
