"""The loss on compressed spectra: its definition, its limits, and that ESPnet finds it by name."""

import numpy as np
import pytest
import torch
from espnet2.tasks.enh import criterion_choices

from espnet2_tfckd.criterion import FLOOR, CompressedSpectrumLoss


@pytest.fixture
def signals():
    """Reference and estimate, (3, 4000)."""
    noise = np.random.default_rng(0).standard_normal((2, 3, 4000))
    return torch.from_numpy(0.1 * noise[0]), torch.from_numpy(0.1 * noise[0] + 0.05 * noise[1])


def spectra(signal, size, hop):
    """Frame by frame with NumPy, (N, F)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.pad(signal, size // 2, mode="reflect")
    frames = [padded[i : i + size] for i in range(0, len(padded) - size + 1, hop)]
    return np.fft.rfft(np.array(frames) * window / np.sqrt(np.square(window).sum()))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_it_is_what_its_formula_says(weight, signals):
    loss = CompressedSpectrumLoss(n_fft=64, hop_length=16, compression=0.4, complex_weight=weight)
    values = loss(*signals)
    for value, reference, estimate in zip(values, *signals, strict=True):
        level = reference.square().mean().sqrt()
        target, ours = (spectra((x / level).numpy(), 64, 16) for x in (reference, estimate))
        magnitudes = [(np.abs(x) ** 2 + FLOOR) ** 0.2 for x in (target, ours)]
        compressed = [
            m * x / np.sqrt(np.abs(x) ** 2 + FLOOR)
            for m, x in zip(magnitudes, (target, ours), strict=True)
        ]
        of_magnitude = np.square(magnitudes[0] - magnitudes[1]).mean()
        of_spectrum = np.square(np.abs(compressed[0] - compressed[1])).mean()
        expected = (1 - weight) * of_magnitude + weight * of_spectrum
        assert value.item() == pytest.approx(expected, rel=1e-4)


def test_loudness_does_not_count_and_equal_signals_cost_nothing(signals):
    loss = CompressedSpectrumLoss()
    quiet = [0.2 * signal for signal in signals]
    torch.testing.assert_close(loss(*quiet), loss(*signals))
    assert loss(signals[0], signals[0]).abs().max() == 0


def test_phase_counts_by_its_weight(signals):
    reference = signals[0]
    assert CompressedSpectrumLoss(complex_weight=0)(reference, -reference).max() < 1e-6
    assert CompressedSpectrumLoss(complex_weight=1)(reference, -reference).min() > 1


def test_silence_gives_finite_gradients():
    estimate = torch.zeros(2, 2000)
    estimate[1, 500:600] = 0.1
    estimate.requires_grad_()
    CompressedSpectrumLoss()(torch.zeros(2, 2000), estimate).sum().backward()
    assert estimate.grad.isfinite().all() and estimate.grad.abs().max() < 10


def test_espnet_finds_it_by_name():
    assert criterion_choices.get_class("compressed_spectrum") is CompressedSpectrumLoss


@pytest.mark.parametrize(
    "options",
    [{"compression": 0}, {"compression": 1.5}, {"complex_weight": -0.1}, {"hop_length": 1024}],
)
def test_values_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must be .* not "):
        CompressedSpectrumLoss(**options)
