"""Levels, cutting, looping and mixing of speech and noise: arithmetic that all corpora share.

Signals are mono arrays (T,); powers are mean squares; levels in decibels.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve

FRAME_SECONDS = 0.02
PEAK = 0.97  # largest absolute sample of mixture and reference


def frame_levels(signal: np.ndarray, rate: int) -> np.ndarray:
    """Power of each full 20 ms frame in dB (floor -120 dB).

    Shape:
        signal: (T,); returns (T // frame,), empty for a signal shorter than one frame.
    """
    frame = round(FRAME_SECONDS * rate)
    frames = signal[: len(signal) // frame * frame].reshape(-1, frame).astype(np.float64)
    return 10 * np.log10((frames**2).mean(axis=1) + 1e-12)


def active_power(signal: np.ndarray, rate: int) -> float:
    """Mean power of the frames within 35 dB of the loudest one.

    A simple stand-in for the active speech level of ITU-T P.56: pauses do not count.

    Raises:
        ValueError: If the signal is silent or shorter than one frame.
    """
    levels = frame_levels(signal, rate)
    if len(levels) == 0 or levels.max() <= -119.0:
        raise ValueError("a silent or empty signal has no active level")
    return float((10 ** (levels[levels > levels.max() - 35] / 10)).mean())


def trim(signal: np.ndarray, rate: int) -> np.ndarray:
    """Cut leading and trailing frames 38 dB below the loudest; keep 60 ms of pad."""
    levels = frame_levels(signal, rate)
    if len(levels) == 0:
        return signal
    active = np.flatnonzero(levels > levels.max() - 38)
    frame, pad = round(FRAME_SECONDS * rate), round(0.06 * rate)
    return signal[max(0, active[0] * frame - pad) : (active[-1] + 1) * frame + pad]


def loop_excerpt(
    recording: np.ndarray, length: int, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A random excerpt of ``length`` samples; a short recording is looped without clicks.

    Loops overlap by 50 ms (a quarter of the recording at most) with an equal-power crossfade.
    """
    if len(recording) >= length:
        start = int(rng.integers(0, len(recording) - length + 1))
        return recording[start : start + length].copy()
    overlap = min(round(0.05 * rate), len(recording) // 4)
    fade = np.sin(np.linspace(0, np.pi / 2, overlap)).astype(recording.dtype)
    head = recording[:overlap] * fade
    body = recording[overlap : len(recording) - overlap]
    seam = recording[len(recording) - overlap :] * fade[::-1] + head
    period = np.concatenate([seam, body])
    start = int(rng.integers(0, len(period)))
    return np.tile(period, (start + length) // len(period) + 1)[start : start + length]


def mix_at_snr(
    speech: np.ndarray, noise: np.ndarray, snr: float, level: float, rate: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Add noise to speech at an exact signal-to-noise ratio.

    The ratio is the speech's active power over the noise's mean power.

    Args:
        speech: Speech, any level, (T,).
        noise: Noise, any level, (T,).
        snr: Signal-to-noise ratio in dB.
        level: Active level of the speech in dB relative to full scale, before ``gain``.
        rate: Sampling rate in Hz.

    Returns:
        Mixture (T,), reference (T,) and the gain of at most 1 that both were scaled by so that
        neither clips.

    Raises:
        ValueError: If lengths differ, one of the two is silent, or has samples that are not
            numbers.
    """
    if len(speech) != len(noise):
        raise ValueError(f"speech has {len(speech)} samples and noise {len(noise)}")
    noise_power = float((noise.astype(np.float64) ** 2).mean()) if len(noise) else 0.0
    if not np.isfinite(noise_power) or not np.isfinite(speech).all():
        raise ValueError("speech and noise must be finite: no signal-to-noise ratio can be set")
    if noise_power < 1e-12:
        raise ValueError("the noise is silent: no signal-to-noise ratio can be set")
    reference = speech.astype(np.float64)
    reference = reference * np.sqrt(10 ** (level / 10) / active_power(reference, rate))
    scale = np.sqrt(active_power(reference, rate) / noise_power) * 10 ** (-snr / 20)
    mixture = reference + noise * scale
    gain = min(1.0, PEAK / max(np.abs(mixture).max(), np.abs(reference).max()))
    return mixture * gain, reference * gain, gain


def nearer(response: np.ndarray, times: float, seconds: float, rate: int) -> np.ndarray:
    """The response of a room to a talker some times nearer to the microphone than in the recording.

    Sound that comes directly falls with the distance, the reverberation hardly: beside the direct
    sound (2.5 ms about the largest sample), the response is divided by ``times``. What comes after
    ``seconds`` is cut off, because it is the noise of a measurement; the last fifth fades out.

    Shape:
        response: (L,); returns (seconds * rate,) or (L,) if that is shorter.

    Examples:
        >>> nearer(np.array([0.0, 0.0, 1.0, 0.5, 0.4, 0.2, 0.2]), 2.0, 6.0, 1).tolist()
        [0.0, 0.0, 1.0, 0.25, 0.2, 0.0]
    """
    cut = response[: round(seconds * rate)]
    direct, width = int(np.abs(cut).argmax()), round(0.0025 * rate)
    is_direct = np.abs(np.arange(len(cut)) - direct) <= width
    fade = max(1, len(cut) // 5)
    gain = np.append(np.ones(len(cut) - fade), np.linspace(1, 0, fade + 1)[1:])
    return np.where(is_direct, cut, cut * gain / times)


def in_room(speech: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Speech as a microphone in a room hears it, without the delay of the direct sound.

    Shape:
        speech: (T,); response: (L,), whose largest sample is the direct sound; returns (T,).

    Examples:
        >>> in_room(np.array([1.0, 2.0, 0.0]), np.array([0.0, 1.0, 0.5])).round(6).tolist()
        [1.0, 2.5, 1.0]
    """
    delay = int(np.abs(response).argmax())
    return fftconvolve(speech, response)[delay : delay + len(speech)]
