"""Signals in blocks of any size come out as they would in one piece."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch

from espnet2_tfckd.deploy.streaming import enhanced_frames, enhanced_windows, resampled, whole_hops

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


def same_noise(spectrum):
    """A network whose frames do not fade as the window does, as those of real ones."""
    frame = np.random.default_rng(1).standard_normal(N_FFT)
    return np.tile(np.fft.rfft(frame / np.abs(frame).max()), (len(spectrum), 1))


def by_torch(signal, hop, step=None):
    """What torch gives of a signal as it is."""
    options = {"hop_length": hop, "window": torch.hann_window(N_FFT), "center": True}
    mixture = torch.from_numpy(signal[:, 0])
    spectrum = torch.stft(mixture, N_FFT, return_complex=True, **options)
    frames = (step or Recursion())(spectrum.numpy().T[:, None])
    estimate = torch.from_numpy(frames.T.astype(np.complex64))
    return torch.istft(estimate, N_FFT, length=len(signal), **options).numpy()


def at_once(signal, hop):
    return by_torch(whole_hops(signal, N_FFT, hop), hop)[: len(signal)]


def streamed(signal, hop, block, frames_per_step, step=None):
    blocks, step = in_blocks(signal, block), step or Recursion()
    return np.concatenate(list(enhanced_frames(blocks, 1, step, N_FFT, hop, frames_per_step)))


@pytest.mark.parametrize("hop", [4, 8])
@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("frames_per_step", [1, 3, 50])
def test_frames_give_the_same_in_any_blocks(hop, block, frames_per_step):
    for samples in [*range(1, 40), *range(96, 106)]:
        signal = noise(samples)
        estimate = streamed(signal, hop, block, frames_per_step)
        assert len(estimate) == samples
        np.testing.assert_allclose(estimate, at_once(signal, hop), atol=1e-6, err_msg=f"{samples}")


@pytest.mark.parametrize("step", [None, same_noise])
@pytest.mark.parametrize("hop", [4, 8])
def test_no_length_ends_with_a_click_and_the_rest_is_torchs(hop, step):
    for samples in range(96, 96 + hop):
        signal = noise(samples)
        estimate = streamed(signal, hop, 1000, 50, step)
        unpadded = by_torch(signal, hop, step)
        assert np.abs(estimate).max() < 2 * np.abs(signal).max()
        settled = samples // hop * hop - (N_FFT // 2 - hop)  # where torch has all frames
        np.testing.assert_allclose(estimate[:settled], unpadded[:settled], atol=1e-6)
    if step and hop == 8:  # a sample short of a whole hop, torch ends with a click
        assert np.abs(unpadded[-1]) > 3 * np.abs(unpadded[:-8]).max()


def test_an_empty_signal_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        list(enhanced_frames([], 1, Recursion(), N_FFT, HOP, 4))


@pytest.mark.parametrize("samples", [1, 2, 7, 8, 9, 255, 256, 257, 1000])
@pytest.mark.parametrize("channels", [1, 3])
def test_whole_hops_continue_by_reflection(samples, channels):
    signal = noise(samples, channels)
    padded = whole_hops(signal, 512, 256)
    assert len(padded) % 256 == 0 and 256 < len(padded) and len(padded) - samples < 512
    np.testing.assert_array_equal(padded[:samples], signal)
    if samples > 256 and samples % 256:
        np.testing.assert_array_equal(padded[samples], signal[-2])


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
