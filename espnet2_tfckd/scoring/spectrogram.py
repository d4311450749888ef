"""Spectrograms as small pictures, several on one colour scale."""

from __future__ import annotations

import io
import math
from functools import cache

import numpy as np

RANGE_DB = 70  # from the brightest colour down to the darkest
_COLOURS = "magma"
_SHADES = 32  # 2 dB each: finer steps are hardly visible, and make pictures of noise large
_WINDOW_SECONDS = 0.032
_MAX_COLUMNS, _MAX_ROWS = 480, 256


def spectrogram_db(signal: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power spectrogram with Hann windows of 32 ms, reduced to the size of a small picture.

    Args:
        signal: At least one sample.
        sample_rate: In Hz.

    Shape:
        signal (N,) to (F, T), F up to 256 and T up to 480: neighbouring bins and frames of larger
        ones are averaged in power.

    Returns:
        dB, the power of a full-scale sine being 0.

    Examples:
        >>> sine = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
        >>> levels = spectrogram_db(sine, 16000)
        >>> levels.shape, int(levels[:, 60].argmax()) * 16000 // 512, round(float(levels.max()))
        ((256, 125), 1000, 0)
    """
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    size = 2 * round(_WINDOW_SECONDS * sample_rate / 2)
    window = hann(size, sym=False)
    signal = np.pad(signal, (0, max(0, size - len(signal))))
    hop = size // 4
    spectra = ShortTimeFFT(window, hop, sample_rate).stft(signal, 0, math.ceil(len(signal) / hop))
    power = np.abs(spectra[: size // 2] * 2 / window.sum()) ** 2
    return 10 * np.log10(_shrunk(_shrunk(power, _MAX_ROWS).T, _MAX_COLUMNS).T + 1e-12)


def _shrunk(power: np.ndarray, most: int) -> np.ndarray:
    """Average neighbouring rows until at most a given number is left."""
    group = math.ceil(len(power) / most)
    starts = np.arange(0, len(power), group)
    counts = np.diff([*starts, len(power)])
    return np.add.reduceat(power, starts) / counts[:, None]


def spectrogram_png(levels: np.ndarray, loudest: float) -> bytes:
    """Draw a spectrogram, low frequencies at the bottom.

    Args:
        levels: From :func:`spectrogram_db`.
        loudest: Level in dB of the brightest colour; levels that are at least 70 dB lower get the
            darkest one. Use one value for spectrograms that should be compared.

    Shape:
        levels (F, T)

    Returns:
        A PNG file of T by F pixels.
    """
    from PIL import Image

    position = (levels - loudest + RANGE_DB) / RANGE_DB
    shades = np.clip(position * _SHADES, 0, _SHADES - 1).astype(np.uint8)
    picture = Image.fromarray(shades[::-1])
    picture.putpalette(_palette().tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def colour_scale() -> list[str]:
    """The colours from the darkest to the brightest as ``#rrggbb``."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in _palette()]


@cache
def _palette() -> np.ndarray:
    import matplotlib

    colours = matplotlib.colormaps[_COLOURS](np.linspace(0, 1, _SHADES))
    return np.round(colours[:, :3] * 255).astype(np.uint8)
