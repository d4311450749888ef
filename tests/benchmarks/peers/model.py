"""What the benchmark asks of a model, and how it treats all models alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import soxr

MACS_SECONDS = 4  # of audio, over which multiply-accumulates of whole signals are counted


class Model(ABC):
    """An enhancement model on one thread, as it would be run on live or recorded audio.

    Attributes:
        sample_rate: In Hz.
        delay: Samples by which the estimate lags behind the mixture.
        latency_ms: From a sample's arrival until all that its estimate depends on has arrived.
        streams: Whether it is handed the signal frame by frame.
        network_seconds: Time of the network alone since it was set to 0, without STFTs; None where
            that is not known.
    """

    sample_rate: int
    delay: int
    latency_ms: float
    streams: bool
    network_seconds: float | None = None

    def reset(self) -> None:  # noqa: B027  (not all models remember)
        """Forget the signals so far."""

    @abstractmethod
    def stream(self, mixture: np.ndarray) -> Iterator[np.ndarray]:
        """Enhance a signal (N,), float32, as if it followed those since the last reset.

        Yields:
            The estimate in blocks, as each is done; at least N samples in all.
        """

    @abstractmethod
    def costs(self) -> dict[str, int]:
        """``num_params`` and ``macs_per_second``, multiply-accumulates per second of audio."""


def resampled(signal: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Resample by soxr's quality VHQ, whose delay is compensated by soxr."""
    return signal if rate == target else soxr.resample(signal, rate, target, quality="VHQ")


def enhance(model: Model, mixture: np.ndarray, sample_rate: int) -> np.ndarray:
    """Enhance a signal at any rate, aligned with the mixture.

    Args:
        model: The model, whose declared delay is taken off.
        mixture: (N,), float32.
        sample_rate: Of the mixture, in Hz.

    Returns:
        The estimate (N,), at the rate of the mixture.
    """
    at_model = resampled(mixture, sample_rate, model.sample_rate)
    flushed = np.concatenate([at_model, np.zeros(model.delay, np.float32)])
    model.reset()
    estimate = np.concatenate(list(model.stream(flushed)))[model.delay :][: len(at_model)]
    estimate = resampled(estimate.astype(np.float32), model.sample_rate, sample_rate)
    return np.pad(estimate, (0, max(0, len(mixture) - len(estimate))))[: len(mixture)]


def lag(reference: np.ndarray, signal: np.ndarray, longest: int) -> int:
    """By how many samples a signal lags behind another: the peak of their cross-correlation.

    Args:
        reference: (N,)
        signal: (N,)
        longest: Largest lag to look for, in samples.

    Raises:
        ValueError: A signal is silent, or they are not longer than ``longest``.

    Examples:
        >>> noise = np.random.default_rng(0).standard_normal(1000)
        >>> lag(noise, np.concatenate([np.zeros(37), noise[:-37]]), 100)
        37
    """
    if not (np.any(reference) and np.any(signal)):
        raise ValueError("the lag of a silent signal is not defined")
    if min(len(reference), len(signal)) <= longest:
        raise ValueError(f"signals of more than {longest} samples are needed to find such a lag")
    size = len(reference) + len(signal)
    spectrum = np.conj(np.fft.rfft(reference, size)) * np.fft.rfft(signal, size)
    return int(np.fft.irfft(spectrum, size)[: longest + 1].argmax())


def timed(model: Model, mixture: np.ndarray) -> dict:
    """Enhance a signal at the model's rate.

    Returns:
        ``seconds`` in all, ``network_seconds`` of them in the network, and ``frame_ms`` of each
        frame where the model streams.
    """
    frame_ms = []
    if model.network_seconds is not None:
        model.network_seconds = 0.0
    model.reset()
    start = before = time.perf_counter()
    for _ in model.stream(mixture):
        now = time.perf_counter()
        frame_ms.append(1000 * (now - before))
        before = now
    return {
        "seconds": before - start,
        "network_seconds": model.network_seconds,
        "frame_ms": frame_ms if model.streams else [],
    }


def check_causal(run: Callable[[np.ndarray], np.ndarray], latency: int, size: int) -> None:
    """Make sure that a model looks ahead by no more than its algorithmic latency.

    Args:
        run: From a mixture (N,) to the estimate (N,), aligned with it.
        latency: In samples.
        size: Samples N to try it on.

    Raises:
        ValueError: Other samples from the middle on change the estimate earlier than that.
    """
    mixture = 0.1 * np.random.default_rng(0).standard_normal((2, size)).astype(np.float32)
    changed_from = size // 2
    mixture[1, :changed_from] = mixture[0, :changed_from]
    first, second = (run(signal) for signal in mixture)
    differs = np.abs(first - second) > 1e-4 * np.abs(first).max()
    if differs[: changed_from - latency].any():
        ahead = changed_from - int(differs.argmax())
        raise ValueError(
            f"the model is not causal: it looks {ahead} samples ahead, more than its latency of "
            f"{latency}"
        )
