from __future__ import annotations

import pytest
import torch
from torch_complex.tensor import ComplexTensor

from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator
from tests.golden_data import golden_files, load_golden, numbered, relative_error
from tests.oracles.dpdcrn import NaiveDPDCRN

FEATURES = {"feature_sets": True}


def spectrum(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.complex(
        torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    )


def enhance(separator, mixture, additional=None):
    lengths = torch.full((len(mixture),), mixture.shape[1])
    (estimate,), _, others = separator(mixture, lengths, additional)
    return estimate, others


@pytest.mark.parametrize("path", golden_files("dpdcrn_*.npz"), ids=lambda path: path.stem)
def test_reproduces_the_golden_data(path):
    arrays = load_golden(path)
    weights = {k.removeprefix("weights."): v for k, v in arrays.items() if k.startswith("weights.")}
    channels, twice_microphones = weights["encoder.0.conv.weight"].shape[:2]
    microphones = twice_microphones // 2
    separator = DPDCRNSeparator(
        arrays["input"].shape[-1],
        channels=channels,
        blocks=1 + max(int(k.split(".")[2]) for k in weights if ".frequency." in k),
        dense_depth=1 + max(int(k.split(".")[3]) for k in weights if ".dense." in k),
        microphones=microphones,
    )
    separator.load_state_dict(weights, strict=True)

    real, imag = arrays["input"].split(microphones, dim=1)
    mixture = torch.complex(real, imag).transpose(1, 2)  # (B, T, M, F)
    estimate, others = enhance(separator, mixture, FEATURES)

    assert relative_error(estimate.real, arrays["enhanced_real"]) < 1e-5
    assert relative_error(estimate.imag, arrays["enhanced_imag"]) < 1e-5
    for name, layers in others["feature_sets"].items():
        expected = numbered(arrays, f"features.{name}")
        assert len(layers) == len(expected)
        for actual, golden in zip(layers, expected, strict=True):
            assert relative_error(actual, golden) < 1e-5


@pytest.mark.parametrize(("channels", "blocks", "count"), [(128, 4, 3_218_118), (64, 1, 595_494)])
def test_paper_sizes_have_the_published_numbers_of_parameters(channels, blocks, count):
    separator = DPDCRNSeparator(257, channels=channels, blocks=blocks)
    assert sum(p.numel() for p in separator.parameters()) == count


@pytest.mark.parametrize("microphones", [1, 3])
def test_outputs_and_gradients_equal_the_literal_transcription(microphones):
    torch.manual_seed(0)
    separator = DPDCRNSeparator(257, channels=16, blocks=2, microphones=microphones)
    oracle = NaiveDPDCRN(16, 2, microphones=microphones)
    oracle.load_state_dict(separator.state_dict(), strict=True)
    mixture = spectrum(2, 9, microphones, 257)
    target = spectrum(2, 9, 257, seed=1)

    estimate, others = enhance(separator, mixture, FEATURES)
    stacked = torch.cat([mixture.real, mixture.imag], 2).transpose(1, 2)
    expected, expected_sets = oracle(stacked)

    assert relative_error(torch.view_as_real(estimate), torch.view_as_real(expected)) < 1e-5
    for name, layers in others["feature_sets"].items():
        for actual, feature in zip(layers, expected_sets[name], strict=True):
            assert relative_error(actual, feature) < 1e-5
    (estimate - target).abs().mean().backward()
    (expected - target).abs().mean().backward()
    # Biases before a norm have no gradient but rounding: compare on the scale of all gradients.
    scale = max(p.grad.abs().max() for p in oracle.parameters())
    theirs = dict(oracle.named_parameters())
    for name, own in separator.named_parameters():
        assert (own.grad - theirs[name].grad).abs().max() < 1e-4 * scale, name


def test_one_channel_may_come_with_or_without_a_channel_axis():
    separator = DPDCRNSeparator(257, channels=8, heads=2)
    mixture = spectrum(2, 5, 257)
    without, _ = enhance(separator, mixture)
    with_axis, _ = enhance(separator, mixture.unsqueeze(2))
    assert torch.equal(without, with_axis)


def test_feature_sets_come_only_when_asked_for():
    separator = DPDCRNSeparator(257, channels=8, heads=2, blocks=2)
    mixture = spectrum(1, 5, 257)
    heads = []
    separator.dual_path.output.register_forward_hook(lambda *_: heads.append(1))
    plain, others = enhance(separator, mixture)
    assert "feature_sets" not in others
    assert len(heads) == 1  # the head of the last block only
    asked, others = enhance(separator, mixture, FEATURES)
    assert [len(layers) for layers in others["feature_sets"].values()] == [3, 2, 3]
    assert torch.equal(plain, asked)


def test_the_estimate_is_the_reference_channel_under_the_mask():
    separator = DPDCRNSeparator(257, channels=8, heads=2, microphones=2, ref_channel=1)
    mixture = spectrum(1, 5, 2, 257)
    estimate, others = enhance(separator, mixture)
    mask = others["mask_spk1"]
    assert mask.abs().max() < 1
    torch.testing.assert_close(estimate, mask * mixture[:, :, 1], rtol=1e-4, atol=1e-4)


def test_digital_silence_gives_finite_output_and_gradients():
    separator = DPDCRNSeparator(257, channels=8, heads=2)
    estimate, _ = enhance(separator, torch.zeros(1, 5, 257, dtype=torch.complex64))
    estimate.abs().square().mean().backward()
    assert torch.isfinite(torch.view_as_real(estimate)).all()
    assert all(torch.isfinite(p.grad).all() for p in separator.parameters())


@pytest.mark.parametrize("bins", [7, 129, 131, 257, 481])
def test_any_one_sided_spectrum_keeps_its_bins(bins):
    estimate, _ = enhance(DPDCRNSeparator(bins, channels=8, heads=2), spectrum(1, 4, bins))
    assert estimate.shape == (1, 4, bins)


@pytest.mark.parametrize("causal", [False, True])
def test_half_precision_under_autocast_trains(causal):
    torch.manual_seed(0)
    separator = DPDCRNSeparator(33, channels=8, blocks=1, causal=causal)
    mixture = spectrum(2, 9, 33)
    expected, _ = enhance(separator, mixture)
    with torch.autocast("cpu", torch.bfloat16):
        estimate, _ = enhance(separator, mixture)
        loss = estimate.abs().sum()
    loss.backward()
    assert relative_error(estimate.abs(), expected.abs()) < 0.1
    assert all(p.grad.isfinite().all() for p in separator.parameters())


@pytest.mark.parametrize("causal", [False, True])
def test_double_precision_gives_the_same(causal):
    torch.manual_seed(0)
    separator = DPDCRNSeparator(33, channels=8, blocks=1, causal=causal)
    mixture = spectrum(2, 9, 33)
    expected, _ = enhance(separator, mixture)
    estimate, _ = enhance(separator.double(), mixture.to(torch.complex128))
    assert estimate.dtype == torch.complex128
    assert relative_error(estimate.abs(), expected.abs()) < 1e-4
    estimate.abs().sum().backward()


def test_the_spectra_are_of_the_kind_that_was_handed_over():
    """As ESPnet's encoder does with ``use_builtin_complex: false``."""
    torch.manual_seed(0)
    separator, mixture = DPDCRNSeparator(33, channels=8, blocks=1), spectrum(2, 9, 33)
    expected, masks = enhance(separator, mixture)
    estimate, others = enhance(separator, ComplexTensor(mixture.real, mixture.imag))
    for actual, value in ((estimate, expected), (others["mask_spk1"], masks["mask_spk1"])):
        assert isinstance(actual, ComplexTensor) and torch.is_complex(value)
        torch.testing.assert_close(torch.complex(actual.real, actual.imag), value)


def test_real_input_is_refused_by_name():
    separator = DPDCRNSeparator(33, channels=8, blocks=1)
    with pytest.raises(ValueError, match="complex spectra, not torch.float32: set encoder: stft"):
        enhance(separator, torch.randn(2, 9, 33))


def test_another_number_of_channels_is_refused_by_name():
    separator = DPDCRNSeparator(257, channels=8, heads=2)
    with pytest.raises(ValueError, match=r"4 channel\(s\).*built for 1.*microphones"):
        enhance(separator, spectrum(1, 5, 4, 257))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (dict(num_spk=2), "num_spk must be 1"),
        (dict(channels=20), "multiple of 2 \\* heads"),
        (dict(ref_channel=1), "ref_channel 1 is not among the 1"),
        (dict(input_dim=256), "input_dim must be odd"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        DPDCRNSeparator(**{"input_dim": 257, **sizes})
