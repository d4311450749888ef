"""Entries of an scp list: an audio file, or a place in an archive, ``file.ark:offset``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from espnet2_tfckd.data import audio

SILENCE = 1e-10  # mean power, -100 dB below full scale


def file_of(entry: str) -> Path:
    """The file that an scp entry lies in: an audio file itself, or the archive of an offset."""
    file, _, offset = entry.rpartition(":")
    return Path(file if file.endswith(".ark") and offset.isdigit() else entry)


def read_entry(entry: str) -> tuple[np.ndarray, int]:
    """Read the audio of an scp entry: a file in any format, or ``file.ark:offset``.

    Returns:
        Samples as float32, 1 being full scale, and the sampling rate in Hz.

    Shape:
        (T, M), M microphones.

    Raises:
        OSError: If the file does not exist, or may not be read.
        ValueError: If it is not readable audio, or is cut off.
    """
    file = file_of(entry)
    if not file.is_file():
        raise FileNotFoundError(f"audio file {entry} does not exist (seen from {Path.cwd()})")
    if str(file) == str(Path(entry)):
        return audio.read_audio(entry)
    try:
        return _read_ark(entry)
    except Exception as error:  # kaldiio raises all kinds on damaged files
        raise ValueError(f"{entry} is not readable audio: {error}") from error


def read_channel(entry: str, ref_channel: int) -> tuple[np.ndarray, int]:
    """Read one channel of finite audio; of a file with a single channel, that one.

    Args:
        entry: As for :func:`read_entry`.
        ref_channel: Channel to take if there are several, from 0.

    Shape:
        samples (N,)

    Returns:
        Samples in double precision and the sample rate in Hz.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If the file cannot be read as audio, holds no samples or samples that are not
            finite, or the channel does not exist.
    """
    samples, sample_rate = read_entry(entry)
    channels = samples.shape[1]
    if len(samples) == 0:
        raise ValueError(f"{entry} holds no samples")
    if not 0 <= ref_channel < channels and channels > 1:
        raise ValueError(f"{entry} has {channels} channels, there is no channel {ref_channel}")
    channel = samples[:, ref_channel if channels > 1 else 0].astype(np.float64)
    if not np.all(np.isfinite(channel)):
        raise ValueError(f"{entry} has NaN or infinite samples")
    return channel, sample_rate


def entry_shape(entry: str) -> tuple[int, int, int]:
    """Samples, channels and rate in Hz of an scp entry's audio, from its header if that says.

    Raises:
        As :func:`read_entry`.
    """
    if Path(entry).is_file():
        return audio.audio_shape(entry)
    samples, rate = read_entry(entry)
    return *samples.shape, rate


def entry_seconds(entry: str) -> float:
    """Duration in seconds of an scp entry's audio.

    Raises:
        As :func:`read_entry`.
    """
    frames, _, rate = entry_shape(entry)
    return frames / rate


def signal_fault(signal: np.ndarray) -> str | None:
    """Say why a signal is useless: it is empty, holds samples that are not numbers, or is silent.

    Examples:
        >>> signal_fault(np.zeros(8000)), signal_fault(np.ones(8000))
        ('is silent', None)
    """
    if not len(signal):
        return "is empty"
    if not np.isfinite(signal).all():
        return "holds samples that are not numbers"
    if np.square(signal, dtype=np.float64).mean() < SILENCE:
        return "is silent"
    return None


def decibels(signal: np.ndarray) -> float:
    """Power of a signal in dB, 0 being that of samples of size 1, -120 silence.

    Examples:
        >>> round(decibels(np.full(8, 0.1))), round(decibels(np.zeros(8)))
        (-20, -120)
    """
    return 10 * np.log10(np.square(signal, dtype=np.float64).mean() + 1e-12)


def _read_ark(entry: str) -> tuple[np.ndarray, int]:
    import kaldiio

    first, second = kaldiio.load_mat(entry)
    rate, samples = (first, second) if isinstance(first, int) else (second, first)
    if samples.dtype.kind == "i":
        samples = samples / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    samples = samples.astype(np.float32)
    return (samples[:, None] if samples.ndim == 1 else samples), rate
