"""Audio of any length in blocks: reading, resampling, and enhancing without audible joins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import soxr

if TYPE_CHECKING:
    from espnet2.bin.enh_inference import SeparateSpeech

Blocks = Iterator[np.ndarray]


def resampled(blocks: Iterable[np.ndarray], rate: int, target: int, channels: int) -> Blocks:
    """Resample a signal that comes in blocks (samples, channels), at soxr's quality VHQ."""
    if rate == target:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, target, channels, dtype="float32", quality="VHQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)


class _Buffer:
    """Samples that have arrived and have not been used yet."""

    def __init__(self, blocks: Iterable[np.ndarray], channels: int):
        self._blocks = iter(blocks)
        self.samples = np.zeros((0, channels), np.float32)
        self.ended = False

    def fill(self, size: int) -> None:
        """Read on until there are ``size`` samples or the signal ends."""
        parts = [self.samples]
        have = len(self.samples)
        while have < size and not self.ended:
            block = next(self._blocks, None)
            if block is None:
                self.ended = True
            else:
                parts.append(block)
                have += len(block)
        self.samples = np.concatenate(parts)

    def drop(self, size: int) -> None:
        self.samples = self.samples[size:]


def whole_hops(signal: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Continue a signal by its reflection to a whole number of hops, more than half a window.

    With any other length, a centred STFT ends with a frame whose window is almost 0 where no other
    frame covers the signal. The inverse STFT then divides by almost 0, which makes a click. After
    this padding, two or more frames cover every sample. All code that enhances pads in this way,
    and cuts the estimate.

    Args:
        signal: (samples, ...), one sample or more.
        n_fft: Length of the window.
        hop: Samples from frame to frame.

    Examples:
        >>> whole_hops(np.array([1, 2, 3, 4, 5]), 4, 4), whole_hops(np.array([7]), 4, 2)
        (array([1, 2, 3, 4, 5, 4, 3, 2]), array([7, 7, 7, 7]))
    """
    hops = max(-(-len(signal) // hop), n_fft // 2 // hop + 1)
    padding = [(0, hops * hop - len(signal)), *[(0, 0)] * (signal.ndim - 1)]
    return np.pad(signal, padding, mode="reflect")


def separated(separate_speech: SeparateSpeech, mixture: np.ndarray, rate: int) -> np.ndarray:
    """Enhance a whole signal of any length by ESPnet's inference, without its click at the end.

    Args:
        separate_speech: The model.
        mixture: (samples, channels), float32.
        rate: In Hz.

    Returns:
        The estimate, (samples,).

    Raises:
        ValueError: If the signal is empty.
    """
    if not len(mixture):
        raise ValueError("is empty")
    padded = whole_hops(mixture, *_framing(separate_speech.enh_model.encoder))
    batch = padded.T if padded.shape[1] == 1 else padded[None]
    estimate = separate_speech(batch, fs=rate)[0][0][: len(mixture)]
    # convolutional decoders may end some samples early
    return np.pad(estimate, (0, len(mixture) - len(estimate)))


def _framing(encoder) -> tuple[int, int]:
    """Window and hop of ESPnet's encoder in samples; (1, 1) if it has none."""
    stft = getattr(encoder, "stft", None)
    if stft is not None:
        return stft.n_fft, stft.hop_length
    kernel = getattr(encoder, "kernel_size", 1)
    return 2 * kernel, getattr(encoder, "stride", 1)


def enhanced_frames(
    blocks: Iterable[np.ndarray],
    channels: int,
    step: Callable[[np.ndarray], np.ndarray],
    n_fft: int,
    hop: int,
    frames_per_step: int,
) -> Blocks:
    """Enhance with a network that keeps states; the result is the same as all at once.

    The signal is continued by :func:`whole_hops` and its ends are reflected. Its frames are those
    of a centred STFT with a Hann window.

    Args:
        blocks: The signal, each block (samples, channels).
        channels: Channels of the signal.
        step: Function from complex spectra (T, channels, F) of the next frames to the estimate's
            (T, F).
        n_fft: Length of window and transform.
        hop: Samples from frame to frame.
        frames_per_step: Frames T for each call of ``step``; fewer at the end.

    Yields:
        The estimate, (samples,), as many samples in all as the signal has.

    Raises:
        ValueError: If the signal is empty.
    """
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    half, buffer, total = n_fft // 2, _Buffer(blocks, channels), None
    buffer.fill(n_fft + hop)
    if buffer.ended:
        total = len(buffer.samples)
        if not total:
            raise ValueError("is empty")
        buffer.samples = whole_hops(buffer.samples, n_fft, hop)
        buffer.samples = np.pad(buffer.samples, ((0, half), (0, 0)), mode="reflect")
    buffer.samples = np.concatenate([buffer.samples[half:0:-1], buffer.samples])
    written, seen = 0, -half  # of the signal itself, at the beginning of the buffer
    tail = np.zeros((2, n_fft), np.float32)  # overlap-added so far: signal, squared windows
    while True:
        # the end can only be reflected while enough is left
        buffer.fill(n_fft + (frames_per_step - 1) * hop + half + hop)
        if buffer.ended and total is None:
            total = seen + len(buffer.samples)
            padding = -total % hop
            for size in (padding, half):
                reflected = buffer.samples[-2 : -size - 2 : -1]
                buffer.samples = np.concatenate([buffer.samples, reflected])
        count = min(frames_per_step, (len(buffer.samples) - n_fft) // hop + 1)
        if count > 0:
            starts = np.arange(count) * hop
            frames = np.stack([buffer.samples[s : s + n_fft] for s in starts])
            estimate = step(np.fft.rfft(frames * window[:, None], axis=1).transpose(0, 2, 1))
            frames = np.fft.irfft(estimate, n_fft, axis=1).astype(np.float32) * window
            merged = np.zeros((2, n_fft + count * hop), np.float32)
            merged[:, :n_fft] = tail
            for start, frame in zip(starts, frames, strict=True):
                merged[0, start : start + n_fft] += frame
                merged[1, start : start + n_fft] += window**2
            buffer.drop(count * hop)
            done, tail = merged[:, : count * hop], merged[:, count * hop :]
        else:
            done = tail
        done = done[0] / np.maximum(done[1], 1e-11)
        begin, seen = max(0, -seen), seen + len(done)
        done = done[begin : len(done) if total is None else begin + total - written]
        written += len(done)
        if len(done):
            yield done
        if count <= 0 or (total is not None and written >= total):
            return


def enhanced_windows(
    blocks: Iterable[np.ndarray],
    channels: int,
    enhance: Callable[[np.ndarray], np.ndarray],
    size: int,
    overlap: int,
) -> Blocks:
    """Enhance with a network that needs a whole signal, in windows that are cross-faded.

    Args:
        blocks: The signal, each block (samples, channels).
        channels: Channels of the signal.
        enhance: Function from a signal (samples, channels) to the estimate (samples,).
        size: Samples of a window; a signal of up to one and a half times this length is taken
            whole.
        overlap: Samples over which one window fades into the next.

    Yields:
        The estimate, (samples,), as many samples in all as the signal has.
    """
    buffer, tail = _Buffer(blocks, channels), None
    fade = np.linspace(0, 1, overlap, dtype=np.float32)
    while True:
        buffer.fill(size + size // 2 + 1)
        is_last = buffer.ended and len(buffer.samples) <= size + size // 2
        window = buffer.samples if is_last else buffer.samples[:size]
        estimate = enhance(window)
        if tail is not None:
            estimate[:overlap] = fade * estimate[:overlap] + (1 - fade) * tail
        if is_last:
            yield estimate
            return
        yield estimate[: size - overlap]
        tail = estimate[size - overlap :]
        buffer.drop(size - overlap)
