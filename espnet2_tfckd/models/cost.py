"""The costs of a model: parameters, multiply-accumulates, and real-time factor on one thread."""

from __future__ import annotations

import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from espnet2_tfckd.cli import write_json
from espnet2_tfckd.data.freshness import change

if TYPE_CHECKING:
    from espnet2.bin.enh_inference import SeparateSpeech

PROFILE = "profile.json"  # in the experiment directory
MIXTURE_SECONDS = 4
NUM_RUNS = 7


def count_macs(run: Callable[[], object]) -> int:
    """Count the multiply-accumulates of the PyTorch operations that a function calls.

    Matrix products and convolutions are counted, as by torch's own counter. That counter does not
    see the fused CPU kernels of recurrent layers and attention. So these kernels are switched off,
    and the layers run as matrix products. Element-wise operations and Fourier transforms are not
    counted, and a product of complex numbers counts as one.

    Args:
        run: The computation, on the CPU.

    Returns:
        Number of multiply-accumulates.

    Examples:
        >>> import torch
        >>> linear = torch.nn.Linear(3, 5)
        >>> count_macs(lambda: linear(torch.zeros(2, 3)))
        30
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    fast_path = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # of mkldnn.flags itself
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.no_grad())
        counter = stack.enter_context(FlopCounterMode(display=False))
        run()
    return counter.get_total_flops() // 2


def cpu_name() -> str:
    """Name of the processor, if the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def profile(separate_speech: SeparateSpeech, sample_rate: int, num_channels: int = 1) -> dict:
    """Measure a model on the CPU, on one thread.

    Args:
        separate_speech: The model, on the CPU.
        sample_rate: In Hz.
        num_channels: Channels of the mixture.

    Returns:
        ``num_params``; ``macs_per_second``, multiply-accumulates per second of audio for a mixture
        of 4 s (attention over time makes it depend on the duration); ``rtf``, processing time over
        duration, median of 7 runs after one to warm up; ``threads`` (1) and ``device``.
    """
    import torch

    shape = (1, MIXTURE_SECONDS * sample_rate, *([num_channels] if num_channels > 1 else []))
    mixture = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.1
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        macs = count_macs(lambda: separate_speech(mixture, fs=sample_rate))
        separate_speech(mixture, fs=sample_rate)
        seconds = []
        for _ in range(NUM_RUNS):
            start = time.perf_counter()
            separate_speech(mixture, fs=sample_rate)
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return {
        "num_params": sum(p.numel() for p in separate_speech.enh_model.parameters()),
        "macs_per_second": macs / MIXTURE_SECONDS,
        "rtf": statistics.median(seconds) / MIXTURE_SECONDS,
        "threads": 1,
        "device": f"cpu ({cpu_name()})",
    }


def profile_made_of(model: dict) -> dict:
    """What a measurement depends on: the model, and the machine and the library that ran it.

    Args:
        model: What the model is made of, see :func:`espnet2_tfckd.data.freshness.made_of`.
    """
    code = {"pytorch": version("torch"), "processor": cpu_name()}
    return {**model, "code": model["code"] | code}


def write_profile(
    path: str | Path, made: dict, separate_speech: SeparateSpeech, *args: int
) -> dict:
    """Measure a model as :func:`profile` does; write the result and what it depends on."""
    measured = profile(separate_speech, *args) | {"made_of": made}
    write_json(path, measured)
    return measured


def is_measured(path: str | Path, made: dict) -> bool:
    """Whether the measurement in a file depends on the same."""
    try:
        before = json.loads(Path(path).read_text(encoding="utf-8")).get("made_of")
    except (OSError, ValueError, AttributeError):
        return False
    return isinstance(before, dict) and change(before, made) is None
