"""Audio of any length as blocks: reading, resampling, and enhancing without seams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import soxr

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
    """Samples that have arrived and have not been used up."""

    def __init__(self, blocks: Iterable[np.ndarray], channels: int):
        self._blocks = iter(blocks)
        self.samples = np.zeros((0, channels), np.float32)
        self.ended = False

    def fill(self, size: int) -> None:
        """Read on until there are ``size`` samples or no more come."""
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


def enhanced_frames(
    blocks: Iterable[np.ndarray],
    channels: int,
    step: Callable[[np.ndarray], np.ndarray],
    n_fft: int,
    hop: int,
    frames_per_step: int,
) -> Blocks:
    """Enhance with a network that remembers what came before: exactly as all at once.

    The frames are those of a centred STFT with a Hann window, the ends of the signal reflected.

    Args:
        blocks: The signal, each block (samples, channels).
        channels: Channels of the signal.
        step: Complex spectra (T, channels, F) of the next frames to the estimate's (T, F).
        n_fft: Length of window and transform.
        hop: Samples from frame to frame.
        frames_per_step: Frames T handed over at a time; fewer at the end.

    Yields:
        The estimate, (samples,), as many samples in all as the signal has.

    Raises:
        ValueError: The signal is too short for a centred STFT.
    """
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    half, buffer = n_fft // 2, _Buffer(blocks, channels)
    buffer.fill(half + 1)
    if len(buffer.samples) <= half:
        raise ValueError(f"has {len(buffer.samples)} samples, {half + 1} are needed at least")
    buffer.samples = np.concatenate([buffer.samples[half:0:-1], buffer.samples])
    total, written, reflected = None, 0, False
    tail = np.zeros((2, n_fft), np.float32)  # overlap-added so far: signal, squared windows
    seen = -half  # of the signal itself, at the beginning of the buffer
    while True:
        span = n_fft + (frames_per_step - 1) * hop
        buffer.fill(span + half + 1)  # the end can only be reflected while enough is left
        if buffer.ended and not reflected:
            reflected, total = True, seen + len(buffer.samples)
            buffer.samples = np.concatenate([buffer.samples, buffer.samples[-2 : -half - 2 : -1]])
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
    """Enhance with a network that looks at a whole signal: in windows that are cross-faded.

    Args:
        blocks: The signal, each block (samples, channels).
        channels: Channels of the signal.
        enhance: Signal (samples, channels) to the estimate (samples,).
        size: Samples of a window; a signal up to one and a half times as long is taken whole.
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
