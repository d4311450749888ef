"""Signals in blocks of any size come out as they would in one piece."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from espnet2_tfckd.deploy.signals import enhanced_frames, enhanced_windows, resampled

N_FFT, HOP = 16, 4


def noise(samples, channels=1):
    return np.random.default_rng(0).standard_normal((samples, channels)).astype(np.float32)


def in_blocks(signal, size):
    return [signal[start : start + size] for start in range(0, len(signal), size)]


class Recursion:
    """A network with a memory: each frame is the spectrum plus half of the frame before."""

    def __init__(self):
        self.before = 0

    def __call__(self, spectrum):
        frames = []
        for frame in spectrum[:, 0]:
            self.before = frame + 0.5 * self.before
            frames.append(self.before)
        return np.stack(frames)


def centred_stft(signal):
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    padded = np.pad(signal, ((N_FFT // 2,) * 2, (0, 0)), mode="reflect")
    starts = range(0, len(padded) - N_FFT + 1, HOP)
    frames = np.stack([padded[s : s + N_FFT] * window[:, None] for s in starts])
    return np.fft.rfft(frames, axis=1).transpose(0, 2, 1), starts, len(padded), window


def at_once(signal):
    spectrum, starts, length, window = centred_stft(signal)
    output, weight = np.zeros(length), np.zeros(length)
    for start, frame in zip(starts, np.fft.irfft(Recursion()(spectrum), N_FFT), strict=True):
        output[start : start + N_FFT] += frame * window
        weight[start : start + N_FFT] += window**2
    covered = output / np.maximum(weight, 1e-11)
    return covered[N_FFT // 2 : N_FFT // 2 + len(signal)]


@pytest.mark.parametrize("samples", [9, 10, 33, 64, 101, 102, 103, 104])
@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("frames_per_step", [1, 3, 50])
def test_frames_give_the_same_in_any_blocks(samples, block, frames_per_step):
    signal = noise(samples)
    blocks = enhanced_frames(in_blocks(signal, block), 1, Recursion(), N_FFT, HOP, frames_per_step)
    streamed = np.concatenate(list(blocks))
    assert len(streamed) == samples
    # the last samples of a signal may lie in frames that a whole number of hops does not reach
    np.testing.assert_allclose(streamed, at_once(signal), atol=1e-4)


def test_a_signal_shorter_than_half_a_window_is_refused():
    with pytest.raises(ValueError, match="has 8 samples, 9 are needed"):
        list(enhanced_frames([noise(8)], 1, Recursion(), N_FFT, HOP, 4))


@pytest.mark.parametrize("samples", [1, 50, 149, 150, 151, 1000, 1234])
@pytest.mark.parametrize("block", [13, 10_000])
def test_windows_of_a_network_without_edges_leave_no_seams(samples, block):
    signal = noise(samples, 2)
    calls = []

    def first_channel(window):
        calls.append(len(window))
        return 2 * window[:, 0]

    blocks = enhanced_windows(in_blocks(signal, block), 2, first_channel, 100, 20)
    estimate = np.concatenate(list(blocks))
    np.testing.assert_allclose(estimate, 2 * signal[:, 0], rtol=1e-5)
    assert max(calls) <= 150


def test_resampling_in_blocks_is_resampling():
    signal = noise(48000, 2)
    pieces = list(resampled(in_blocks(signal, 1000), 48000, 16000, 2))
    expected = soxr.resample(signal, 48000, 16000, quality="VHQ")
    np.testing.assert_allclose(np.concatenate(pieces), expected, atol=1e-6)
    assert list(resampled([signal], 16000, 16000, 2))[0] is signal
