"""The causal DPDCRN looks back only, and gives the same frame by frame as all at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from torch import distributed

from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator
from espnet2_tfckd.separator.normalization import BatchNorm, FeatureNorm
from espnet2_tfckd.separator.stream import Stream
from tests.ranks import WORLD, on_ranks

BINS, FRAMES = 33, 40
VARIANTS = [("cumulative", 8), ("frame", 8), ("cumulative", 1), ("frame", 0), ("batch", 8)]


def network(norm="cumulative", window=8, **sizes):
    torch.manual_seed(0)
    sizes = {"channels": 8, "blocks": 2, "heads": 2, "dense_depth": 3, **sizes}
    separator = DPDCRNSeparator(
        BINS, causal=True, causal_norm=norm, attention_window=window, **sizes
    )
    with torch.no_grad():
        for parameter in separator.parameters():  # biases and scales too
            parameter.add_(0.1 * torch.randn_like(parameter))
    return separator.eval()


def mixture(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.complex64)


def offline(separator, spectrum):
    (estimate,), _, _ = separator(spectrum, torch.tensor([spectrum.shape[1]] * len(spectrum)))
    return estimate


def in_chunks(separator, spectrum, sizes):
    estimates, states = [], None
    for chunk in spectrum.split(sizes, dim=1):
        (estimate,), states, _ = separator.forward_streaming(chunk, states)
        estimates.append(estimate)
    return torch.cat(estimates, 1), states


@pytest.mark.parametrize(("norm", "window"), VARIANTS)
@torch.no_grad()
def test_no_frame_depends_on_later_ones(norm, window):
    separator = network(norm, window)
    spectrum = mixture(2, FRAMES, BINS)
    changed = spectrum.clone()
    changed[:, 25:] = mixture(2, FRAMES - 25, BINS, seed=1)
    before, after = offline(separator, spectrum), offline(separator, changed)
    torch.testing.assert_close(before[:, :25], after[:, :25], rtol=0, atol=1e-7)
    assert not torch.allclose(before[:, 25:], after[:, 25:], atol=1e-2)


@torch.no_grad()
def test_without_causality_frames_do_depend_on_later_ones():
    torch.manual_seed(0)
    separator = DPDCRNSeparator(BINS, channels=8, heads=2).eval()
    spectrum = mixture(1, FRAMES, BINS)
    changed = spectrum.clone()
    changed[:, 25:] = 0
    first, second = offline(separator, spectrum), offline(separator, changed)
    assert not torch.allclose(first[:, :25], second[:, :25], atol=1e-3)


@pytest.mark.parametrize(("norm", "window"), VARIANTS)
@pytest.mark.parametrize("sizes", [[1] * FRAMES, [1, 2, 3, 4, 30], [39, 1], [7] * 5 + [5]])
@torch.no_grad()
def test_any_chunking_gives_what_the_whole_signal_gives(norm, window, sizes):
    separator = network(norm, window)
    spectrum = mixture(2, FRAMES, BINS)
    streamed, _ = in_chunks(separator, spectrum, sizes)
    torch.testing.assert_close(streamed, offline(separator, spectrum), rtol=0, atol=1e-5)


@torch.no_grad()
def test_states_do_not_grow():
    separator = network()
    sizes = []
    states = None
    for frame in mixture(1, FRAMES, BINS).split(1, dim=1):
        _, states, _ = separator.forward_streaming(frame, states)
        sizes.append([tuple(state.shape) for state in states])
    assert all(size == sizes[0] for size in sizes)


@torch.no_grad()
def test_states_of_zeros_are_a_start():
    """What a runtime without a notion of None begins with."""
    separator = network()
    spectrum = mixture(1, 6, BINS)
    _, states, _ = separator.forward_streaming(spectrum)
    (estimate,), _, _ = separator.forward_streaming(spectrum, [torch.zeros_like(s) for s in states])
    torch.testing.assert_close(estimate, offline(separator, spectrum), rtol=0, atol=1e-6)


@torch.no_grad()
def test_several_microphones_stream_too():
    separator = network(microphones=3, ref_channel=1)
    spectrum = mixture(1, 12, 3, BINS)
    streamed, _ = in_chunks(separator, spectrum, [5, 7])
    torch.testing.assert_close(streamed, offline(separator, spectrum), rtol=0, atol=1e-5)


def test_causal_and_offline_networks_have_the_same_parameters():
    torch.manual_seed(0)
    offline_names = dict(DPDCRNSeparator(257, channels=64).named_parameters())
    causal = dict(DPDCRNSeparator(257, channels=64, causal=True).named_parameters())
    assert offline_names.keys() == causal.keys()
    without = DPDCRNSeparator(257, channels=64, causal=True, attention_window=0)
    counts = [sum(p.numel() for p in ps) for ps in (without.parameters(), causal.values())]
    assert 0.98 * counts[1] < counts[0] < counts[1]


def test_an_offline_network_refuses_to_stream():
    with pytest.raises(ValueError, match="causal: true"):
        DPDCRNSeparator(BINS, channels=8, heads=2).forward_streaming(mixture(1, 1, BINS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(attention_window=-1), "attention_window must not be negative"),
        (dict(causal_norm="utterance"), "causal_norm must be one of"),
        (dict(strided_layers=1), "strided_layers must be at least 2"),
        (dict(input_power=0.0), "input_power must be above 0"),
        (dict(input_power=1.5), "input_power must be above 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DPDCRNSeparator(BINS, causal=True, **options)


def test_cumulative_statistics_are_those_of_the_frames_so_far():
    torch.manual_seed(0)
    norm = FeatureNorm(4, 2, 1e-5, "cumulative")
    x = 3 + torch.randn(2, 4, 6, 5)
    result = norm(x, Stream())
    for t in range(6):
        expected = torch.nn.functional.group_norm(x[:, :, : t + 1], 2)[:, :, t]
        torch.testing.assert_close(result[:, :, t], expected)


@torch.no_grad()
def test_cumulative_statistics_do_not_drift_over_hours_of_single_frames():
    """The statistics of a constant signal with one loud frame, exact by arithmetic."""
    norm = FeatureNorm(1, 1, 1e-5, "cumulative")
    quiet, loud = torch.tensor([0.7, 1.3]), torch.tensor([30.1, -10.3])
    states = None
    for frame in [loud, *[quiet] * 20_000]:
        stream = Stream(states)
        result = norm(frame.view(1, 1, 1, 2), stream)
        states = stream.states
    values = torch.cat([loud, quiet.repeat(20_000)]).double()
    expected = (quiet.double() - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(result.flatten().double(), expected, rtol=1e-6, atol=1e-6)


def test_frame_statistics_are_those_of_the_frame():
    torch.manual_seed(0)
    x = 3 + torch.randn(2, 4, 6, 5)
    result = FeatureNorm(4, 4, 1e-5, "frame")(x, Stream())
    torch.testing.assert_close(result, torch.nn.functional.layer_norm(x, (5,)))


def normalised_by_batch() -> dict:
    """Output, gradients and averages of a batch norm that sees this process's part of a batch."""
    torch.manual_seed(0)
    norm, x, target = BatchNorm(3), 2 + torch.randn(4, 3, 5, 6), torch.randn(4, 3, 5, 6)
    if distributed.is_initialized():
        x, target = (y.chunk(WORLD)[distributed.get_rank()] for y in (x, target))
    x.requires_grad_()
    result = norm(x)
    (result - target).square().sum().backward()
    averages = {name: value.clone() for name, value in norm.named_buffers()}
    return {"result": result.detach(), "of_x": x.grad, "of_weight": norm.weight.grad, **averages}


def test_batch_statistics_are_those_of_all_processes(tmp_path):
    """Without processes, they are torch's own."""
    whole, parts = normalised_by_batch(), on_ranks(tmp_path, normalised_by_batch)
    for name in ("result", "of_x"):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole[name])
    torch.testing.assert_close(sum(part["of_weight"] for part in parts), whole["of_weight"])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for part in parts:
            torch.testing.assert_close(part[name], whole[name])


def test_after_training_a_batch_norm_does_not_depend_on_the_batch():
    separator = network("batch").train()
    spectrum = mixture(2, FRAMES, BINS)
    offline(separator, spectrum)
    with torch.no_grad():
        alone, together = (offline(separator.eval(), x) for x in (spectrum[:1], spectrum))
    torch.testing.assert_close(alone, together[:1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("bins", [257, 161, 129, 65, 33])
def test_every_strided_layer_halves_the_bins(layers, bins):
    separator = DPDCRNSeparator(bins, channels=4, heads=1, strided_layers=layers)
    (estimate,), _, others = separator(mixture(1, 3, bins), None, {"feature_sets": True})
    encoder, bottleneck, decoder = others["feature_sets"].values()
    sizes = [layer.shape[3] for layer in encoder]
    assert estimate.shape == (1, 3, bins)
    assert separator.bins_of(bins) == [bins, *sizes[:-1]] and len(sizes) == layers + 1
    assert all(
        -(-one // 2) - next_ in (0, 1)
        for one, next_ in zip([bins, *sizes[:-2]], sizes[:-1], strict=True)
    )
    assert [layer.shape[3] for layer in decoder] == [sizes[-1], *sizes[-3::-1], bins]


def test_the_input_power_compresses_magnitudes_and_keeps_phases():
    separator = DPDCRNSeparator(9, channels=4, heads=1, input_power=0.3)
    spectrum = 10 * mixture(1, 2, 5, 9)  # of 2 microphones
    compressed = separator.compressed(torch.cat([spectrum.real, spectrum.imag], 1))
    expected = torch.polar(spectrum.abs() ** 0.3, spectrum.angle())
    torch.testing.assert_close(torch.complex(*compressed.chunk(2, 1)), expected)


def test_gradients_are_finite_for_silence():
    separator = network().train()
    (estimate,), _, _ = separator(torch.zeros(1, 9, BINS, dtype=torch.complex64), None)
    estimate.abs().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in separator.parameters())


def test_espnet_streams_it_as_it_enhances_at_once(tmp_path):
    from espnet2.bin.enh_inference import SeparateSpeech
    from espnet2.bin.enh_inference_streaming import SeparateSpeechStreaming

    from espnet2_tfckd.training.task import EnhancementTask

    stft = {"n_fft": 64, "hop_length": 32}
    config = {
        "encoder": "stft",
        "encoder_conf": stft,
        "decoder": "stft",
        "decoder_conf": stft,
        "separator": "dpdcrn",
        "separator_conf": {"channels": 8, "heads": 2, "causal": True, "attention_window": 8},
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--config", str(tmp_path / "train.yaml"), "--output_dir", str(tmp_path)]
    args = EnhancementTask.get_parser().parse_args(arguments)
    torch.manual_seed(0)
    torch.save(EnhancementTask.build_model(args).state_dict(), tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    files = (str(tmp_path / "config.yaml"), str(tmp_path / "model.pth"))
    speech = 0.1 * np.random.default_rng(0).standard_normal((1, 3200)).astype(np.float32)

    streaming = SeparateSpeechStreaming(*files)
    frames = streaming.frame(torch.from_numpy(speech))
    chunks = [streaming(frame, fs=16000)[0] for frame in frames]
    streamed = streaming.merge(chunks, torch.tensor([3200]))
    (at_once,) = SeparateSpeech(*files)(speech, fs=16000)
    np.testing.assert_allclose(streamed[0].numpy(), at_once[0], atol=1e-5)
