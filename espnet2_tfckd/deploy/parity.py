"""Does a causal model give the same frame by frame as at once, and what does a frame cost?"""

from __future__ import annotations

import resource
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from espnet2_tfckd.deploy.enhancer import Enhancer, OnnxEnhancer, TorchEnhancer, model_folder
from espnet2_tfckd.deploy.files import read_mixture
from espnet2_tfckd.deploy.streaming import enhanced_frames

CHUNKS = (1, 7, 250)  # frames handed over at a time
_AT_ONCE_SECONDS = 60  # of a file are enhanced at once: that takes memory
TOLERANCES = {"torch": 1e-5, "onnx": 1e-4}  # of samples; full scale is 1
_SETTLED = 0.2  # part of the long signal after which memory must not grow any more


@dataclass
class Parity:
    """How far the output of a streaming network is from that of the same network run at once.

    Attributes:
        name: ``torch`` or ``onnx``.
        differences: Largest absolute difference of samples, by the frames handed over at a time.
        long_difference: The same for the long signal, frame by frame against torch in chunks.
        frame_ms: Milliseconds that each frame of the long signal took.
        growth_mb: MiB by which the peak memory of the process grew after the first fifth of it.
    """

    name: str
    differences: dict[int, float] = field(default_factory=dict)
    long_difference: float = 0.0
    frame_ms: array = field(default_factory=lambda: array("f"))  # small beside what is measured
    growth_mb: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether no difference is above what :data:`TOLERANCES` allows."""
        allowed = TOLERANCES[self.name]
        return all(d < allowed for d in (self.long_difference, *self.differences.values()))


def measure_parity(model: str, sources: list[str], minutes: float) -> list[Parity]:
    """Compare a causal model, run frame by frame, with the same model run at once, on real signals.

    Up to a minute of every file, from a random start, is enhanced at once by ESPnet's inference and
    in chunks of 1, 7 and 250 frames. Then the files, repeated until they fill ``minutes``, are
    enhanced frame by frame, and each frame is timed.

    Args:
        model: Experiment directory, packed ``.zip`` or id on the hub; the ONNX export of stage 12
            in its folder ``onnx`` is measured too.
        sources: Audio files.
        minutes: Length of the long signal.

    Returns:
        One object for torch, and one for ONNX if there is an export.

    Raises:
        FileNotFoundError: If the model is not there.
        ValueError: If the model looks ahead, or a file cannot be read or is too short.
    """
    folder = model_folder(model)
    at_once = TorchEnhancer(folder, streaming=True)
    networks: dict[str, Enhancer] = {"torch": at_once}
    if (folder / "onnx" / "meta.json").is_file():
        networks["onnx"] = OnnxEnhancer(folder / "onnx", streaming=True)
    mixtures = {source: read_mixture(source, at_once) for source in sources}
    results = {name: Parity(name) for name in networks}
    rng = np.random.default_rng(0)
    for source, mixture in tqdm(mixtures.items(), "comparing", unit="file"):
        start = int(rng.integers(len(mixture) // 2 + 1))
        signal = mixture[start : start + _AT_ONCE_SECONDS * at_once.sample_rate]
        if len(signal) <= at_once.n_fft:
            raise ValueError(f"{source}: has {len(mixture)} samples, which is too short to compare")
        expected = at_once.enhance_at_once(signal)
        for name, network in networks.items():
            for frames in CHUNKS if name == "torch" else (1,):
                streamed = _enhance(network, [signal], frames, network.new_step())
                difference = float(np.abs(np.concatenate(list(streamed)) - expected).max())
                of_chunks = results[name].differences
                of_chunks[frames] = max(difference, of_chunks.get(frames, 0.0))
    for name, network in networks.items():
        _measure_long(results[name], network, at_once, list(mixtures.values()), minutes)
    return list(results.values())


def _enhance(network: Enhancer, blocks, frames: int, step) -> Iterator[np.ndarray]:
    return enhanced_frames(
        blocks, network.microphones, step, network.n_fft, network.hop_length, frames
    )


def _measure_long(
    result: Parity,
    network: Enhancer,
    in_chunks: Enhancer,
    mixtures: list[np.ndarray],
    minutes: float,
) -> None:
    """Time every frame of a long signal, and compare with chunks of many frames."""
    samples = int(minutes * 60 * network.sample_rate)
    step = network.new_step()

    def timed(spectrum: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        estimate = step(spectrum)
        result.frame_ms.append(1000 * (time.perf_counter() - began))
        return estimate

    streamed = _enhance(network, _repeated(mixtures, samples), 1, timed)
    expected = _enhance(in_chunks, _repeated(mixtures, samples), CHUNKS[-1], in_chunks.new_step())
    pending, done, settled, worst = np.zeros(0, np.float32), 0, None, 0.0
    with tqdm(
        total=round(60 * minutes),
        desc=f"{result.name}, a frame at a time",
        unit="s",
        unit_scale=True,
    ) as bar:
        for block in expected:
            while len(pending) < len(block):
                pending = np.concatenate([pending, next(streamed)])
            worst = max(worst, float(np.abs(pending[: len(block)] - block).max()))
            pending, done = pending[len(block) :], done + len(block)
            if settled is None and done >= _SETTLED * samples:
                settled = _peak_mb()
            bar.update(len(block) / network.sample_rate)
    result.long_difference, result.growth_mb = worst, _peak_mb() - settled


def _repeated(mixtures: list[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """The mixtures one after the other, again and again, up to a number of samples."""
    left = samples
    while left > 0:
        for mixture in mixtures:
            yield mixture[:left]
            left -= len(mixture)
            if left <= 0:
                return


def _peak_mb() -> float:
    """Peak memory of this process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform == "linux" else 1024**2)


def parity_table(results: list[Parity]) -> str:
    """The results as lines of text."""
    lines = []
    for result in results:
        by_chunk = ", ".join(f"{d:.1e} ({n})" for n, d in sorted(result.differences.items()))
        median, high = np.percentile(result.frame_ms, [50, 99])
        lines += [
            f"{result.name}, frame by frame",
            f"  largest difference to the whole at once      {by_chunk}",
            f"  the same over {len(result.frame_ms)} frames in a row".ljust(47)
            + f"{result.long_difference:.1e}",
            f"  milliseconds a frame, one thread             {median:.2f} (99 %: {high:.2f})",
            f"  growth of memory                             {result.growth_mb:.1f} MiB",
        ]
    return "\n".join(lines)
