"""How late a signal comes after another, and taking that out."""

from __future__ import annotations

import numpy as np
from scipy.signal import correlate, correlation_lags


def lag(mixture: np.ndarray, estimate: np.ndarray, most: int) -> int:
    """Samples by which an estimate comes later than its mixture, by their correlation.

    Args:
        mixture: (T,).
        estimate: (T',).
        most: The largest lag, in either direction, that is looked for.

    Examples:
        >>> noise = np.random.default_rng(0).standard_normal(1000)
        >>> lag(noise, np.pad(noise, (40, 0)), 100), lag(noise, noise[7:], 100)
        (40, -7)
    """
    correlation = correlate(estimate, mixture, method="fft")
    lags = correlation_lags(len(estimate), len(mixture))
    near = np.abs(lags) <= most
    return int(lags[near][np.argmax(np.abs(correlation[near]))])


def align(estimate: np.ndarray, delay: int, length: int, tolerance: int) -> np.ndarray:
    """Take a delay out of an estimate and bring it to the length of its mixture.

    Args:
        estimate: (T',).
        delay: Samples by which it comes late; negative: early.
        length: Samples of the mixture, T.
        tolerance: How many samples it may be shorter or longer.

    Returns:
        (T,), padded with zeros where the teacher gave nothing.

    Raises:
        ValueError: If its length differs from the mixture's by more than the tolerance.

    Examples:
        >>> align(np.array([0.0, 0.0, 1.0, 2.0, 3.0]), 2, 4, 1)
        array([1., 2., 3., 0.])
    """
    if abs(len(estimate) - length) > tolerance:
        raise ValueError(
            f"the teacher's estimate has {len(estimate)} samples, its mixture {length}: take a "
            "teacher that keeps the length"
        )
    shifted = estimate[delay:] if delay >= 0 else np.pad(estimate, (-delay, 0))
    return np.pad(shifted[:length], (0, max(0, length - len(shifted))))
