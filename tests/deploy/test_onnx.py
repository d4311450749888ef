"""Exported models give what ESPnet gives, with numpy and onnxruntime alone."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from onnx.reference import ReferenceEvaluator

from espnet2_tfckd.deploy import onnx_export
from espnet2_tfckd.deploy.enhancer import TorchEnhancer
from espnet2_tfckd.deploy.exported import FACTS
from espnet2_tfckd.deploy.onnx_enhance import ExportedModel, FrameByFrame, session_options
from espnet2_tfckd.deploy.onnx_export import export_onnx
from espnet2_tfckd.deploy.onnx_streaming import StreamingNetwork
from espnet2_tfckd.deploy.streaming import separated
from espnet2_tfckd.models.configuration import Rate
from espnet2_tfckd.models.inference import load_separate_speech
from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator
from espnet2_tfckd.separator.normalization import BatchNorm
from espnet2_tfckd.stages.export import export_model

CHECKPOINT = "valid.loss.best.pth"
STFT = {"n_fft": 128, "hop_length": 64}


@pytest.fixture
def causal(causal_exp, causal_onnx):
    """Experiment and export of a causal network."""
    return causal_exp, causal_onnx


def run_example(folder, mixture, tmp_path, *options):
    soundfile.write(tmp_path / "noisy.wav", mixture, 16000, "FLOAT")
    files = [str(tmp_path / name) for name in ("noisy.wav", "enhanced.wav")]
    command = [sys.executable, str(folder / "enhance.py"), *files, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return soundfile.read(tmp_path / "enhanced.wav", dtype="float32")[0]


@pytest.mark.parametrize("options", [[], ["--offline"]])
def test_the_example_enhances_as_espnet_does(causal, options, tmp_path):
    from espnet2.bin.enh_inference import SeparateSpeech

    exp_dir, folder = causal
    mixture = 0.1 * np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    enhanced = run_example(folder, mixture, tmp_path, *options)
    espnet = SeparateSpeech(exp_dir / "config.yaml", exp_dir / CHECKPOINT)
    expected = separated(espnet, mixture[:, None], 16000)
    np.testing.assert_allclose(enhanced, expected, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 65, 127, 128, 1023, 1024])
@pytest.mark.parametrize("offline", [False, True])
def test_any_length_is_enhanced_as_torch_does_it(causal, offline, samples):

    mixture = 0.1 * np.random.default_rng(samples).standard_normal((samples, 1)).astype(np.float32)
    estimate = ExportedModel(causal[1], offline).enhance(mixture)
    (expected,) = [np.concatenate(list(TorchEnhancer(causal[0]).enhance([mixture])))]
    assert len(estimate) == samples and np.abs(estimate).max() < 10 * np.abs(mixture).max()
    np.testing.assert_allclose(estimate, expected, atol=1e-5)


def test_every_recording_starts_from_fresh_states(causal):
    """The second one is enhanced as if it were the first."""
    enhancer = ExportedModel(causal[1])
    assert enhancer.streaming
    mixtures = 0.1 * np.random.default_rng(0).standard_normal((2, 3000, 1)).astype(np.float32)
    second = [enhancer.enhance(mixture) for mixture in mixtures][1]
    np.testing.assert_array_equal(second, ExportedModel(causal[1]).enhance(mixtures[1]))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("text.wav", lambda p: p.write_text("once upon a time"), "text.wav: "),
        ("missing.wav", lambda p: None, "missing.wav: "),
        ("empty.wav", lambda p: soundfile.write(p, np.zeros(0), 16000), "is empty"),
        ("low.wav", lambda p: soundfile.write(p, np.zeros(900), 8000), "takes 16000 Hz"),
        (
            "nan.wav",
            lambda p: soundfile.write(p, np.full(900, np.nan), 16000, "FLOAT"),
            "not numbers",
        ),
        ("out.wav", lambda p: soundfile.write(p, np.zeros(900), 16000), "would be overwritten"),
    ],
)
def test_the_example_says_in_a_line_what_it_cannot_do(causal, name, make, message, tmp_path):
    make(tmp_path / name)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    arguments = [str(causal[1] / "enhance.py"), str(tmp_path / name), str(tmp_path / "out.wav")]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


VARIANTS = {
    "two blocks": {"blocks": 2},
    "one head": {"heads": 1},
    "no attention over time": {"attention_window": 0},
    "attention to the frame itself": {"attention_window": 1},
    "norms of a frame": {"causal_norm": "frame"},
    "three microphones": {"microphones": 3, "ref_channel": 1},
    "shallow": {"dense_depth": 2},
    "norms of batches": {"causal_norm": "batch", "blocks": 2},
    "few bins": {"strided_layers": 4},
    "compressed input": {"input_power": 0.3, "microphones": 2},
    "for devices": {
        "causal_norm": "batch",
        "strided_layers": 3,
        "input_power": 0.3,
        "attention_window": 0,
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_causal_variant_gives_what_torch_gives(variant, tmp_path):
    """Longer than all memory, with silence and with slopes above 1."""
    torch.manual_seed(0)
    options = {
        "channels": 8,
        "heads": 2,
        "causal": True,
        "attention_window": 5,
        **VARIANTS[variant],
    }
    separator = DPDCRNSeparator(65, **options)
    with torch.no_grad():
        for norm in separator.modules():  # as training would leave them
            if isinstance(norm, BatchNorm):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
        for name, parameter in separator.named_parameters():
            parameter += 0.1 * torch.randn_like(parameter) + 0.9 * name.endswith("prelu.weight")
    network = StreamingNetwork(separator.eval(), 65).eval()
    path = tmp_path / "streaming.onnx"
    zeros = {name: torch.zeros(shape) for name, shape in network.inputs.items()}
    onnx_export.write_network(network, path, zeros, network.outputs, dict.fromkeys(FACTS, 0))
    stream = FrameByFrame(
        onnxruntime.InferenceSession(str(path), session_options()), network.description()
    )
    exact = copy.deepcopy(separator).double()
    for _ in range(2):
        states, exact_states, errors = None, None, []
        for number in range(40):
            frame = torch.randn(1, 1, separator.microphones, 65, dtype=torch.complex64)
            if number in (0, 20):
                frame = torch.zeros_like(frame)
            mixture = torch.cat([frame.real, frame.imag], 2).transpose(1, 2)
            estimate = stream(mixture.numpy())[0, :, 0]
            with torch.no_grad():
                (ours,), states, _ = separator.forward_streaming(frame, states)
                (expected,), exact_states, _ = exact.forward_streaming(
                    frame.to(torch.complex128), exact_states
                )
            results = [estimate, *(torch.view_as_real(x[0, 0]).T.numpy() for x in (ours, expected))]
            errors.append([np.abs(result - results[2]).max() for result in results[:2]])
        # rounding is amplified after silence, in torch as here
        of_onnx, of_torch = np.median(errors, 0)
        assert of_onnx < 3 * of_torch and np.max(errors) < 5e-3
        stream.reset()  # the second time as the first


def test_a_student_for_devices_with_short_hops_is_exported_as_it_is(make_experiment, tmp_path):
    """Neither its averages nor its mode change."""
    stft = {"n_fft": 128, "hop_length": 32}
    options = {"channels": 8, "heads": 2, "causal": True, **VARIANTS["for devices"]}
    exp_dir = make_experiment(tmp_path / "exp", encoder_conf=stft, decoder_conf=stft, **options)
    model = load_separate_speech(exp_dir, CHECKPOINT).enh_model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    meta = export_onnx(model, tmp_path / "onnx", Rate(16000, stated=True))
    assert meta["hop_length"] == 32 and meta["latency_ms"] == 8
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    mixture = 0.1 * np.random.default_rng(0).standard_normal((3000, 1)).astype(np.float32)
    expected = np.concatenate(list(TorchEnhancer(exp_dir).enhance([mixture])))
    for offline in (False, True):
        estimate = ExportedModel(tmp_path / "onnx", offline).enhance(mixture)
        np.testing.assert_allclose(estimate, expected, atol=1e-5)


def test_networks_that_keep_states_alone_still_run():
    """As they were exported earlier: without history, attention, and a list of inputs."""
    shape = [1, 2, 1, 3]
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name in ("mixture", "state0", "estimate", "next_state0")
    ]
    nodes = [
        onnx.helper.make_node("Add", ["mixture", "state0"], ["estimate"]),
        onnx.helper.make_node("Identity", ["estimate"], ["next_state0"]),
    ]
    graph = onnx.helper.make_graph(nodes, "sum", infos[:2], infos[2:])
    opset = [onnx.helper.make_opsetid("", onnx_export.OPSET)]
    network = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = onnxruntime.InferenceSession(network.SerializeToString())
    stream = FrameByFrame(session, {"states": [{"name": "state0", "shape": shape}]})
    sums = [float(stream(np.full(shape, n, np.float32))[0, 0, 0, 0]) for n in (1, 2, 3, 4)]
    assert sums == [1, 3, 6, 10]


def test_a_second_runtime_gives_the_same(causal):
    """The streaming network is made of standard operators only."""
    network = onnx.load(str(causal[1] / "streaming.onnx"))
    assert {node.domain for node in network.graph.node} == {""}
    other = ReferenceEvaluator(network)
    model = json.loads((causal[1] / "meta.json").read_text())["models"]["streaming"]
    session = onnxruntime.InferenceSession(str(causal[1] / "streaming.onnx"))
    rng = np.random.default_rng(0)
    feed = {
        name: 0.1 * rng.random(shape, dtype=np.float32) for name, shape in model["inputs"].items()
    }
    for ours, theirs in zip(session.run(None, feed), other.run(None, feed), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_silence_is_enhanced_to_something_finite(causal, tmp_path):
    assert np.isfinite(run_example(causal[1], np.zeros(3000, np.float32), tmp_path)).all()


def test_the_example_needs_neither_torch_nor_espnet(causal):
    code = (
        f"import sys; sys.path.insert(0, {str(causal[1])!r}); import enhance; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "onnxruntime" in loaded and not loaded & {"torch", "espnet2", "espnet2_tfckd"}


def test_meta_says_what_a_runtime_needs_to_know(causal):
    meta = json.loads((causal[1] / "meta.json").read_text())
    assert (meta["sample_rate"], meta["n_fft"], meta["hop_length"]) == (16000, 128, 64)
    assert meta["causal"] and meta["latency_ms"] == 8.0
    assert meta["license"] == "CC-BY-4.0"
    assert meta["training"]["separator_conf"]["attention_window"] == 5
    for model in meta["models"].values():
        assert (causal[1] / model["file"]).is_file()
        assert 0 <= model["max_difference"] < 1e-4


def test_a_network_that_looks_ahead_has_an_offline_model_only(tmp_path, make_experiment):
    exp_dir = make_experiment(tmp_path / "exp", channels=8, heads=2, microphones=2)
    meta = export_model(exp_dir, CHECKPOINT, tmp_path / "onnx")
    assert list(meta["models"]) == ["offline"] and meta["latency_ms"] is None
    mixture = 0.1 * np.random.default_rng(0).standard_normal((3000, 2)).astype(np.float32)
    enhanced = run_example(tmp_path / "onnx", mixture, tmp_path)
    from espnet2.bin.enh_inference import SeparateSpeech

    espnet = SeparateSpeech(exp_dir / "config.yaml", exp_dir / CHECKPOINT)
    np.testing.assert_allclose(enhanced, separated(espnet, mixture, 16000), atol=1e-5)


def test_an_export_that_differs_from_torch_is_refused_and_leaves_nothing(
    causal, tmp_path, monkeypatch
):
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0.0)
    with pytest.raises(RuntimeError, match=r"offline\.onnx: onnxruntime differs from torch"):
        export_model(causal[0], CHECKPOINT, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_other_networks_and_other_transforms_are_refused(tmp_path, make_experiment):
    from espnet2_tfckd.models.inference import load_separate_speech

    rnn = make_experiment(tmp_path / "rnn", separator="rnn", num_spk=1, unit=8, layer=1)
    with pytest.raises(ValueError, match="only DPDCRN can be exported.*RNNSeparator"):
        export_model(rnn, CHECKPOINT, tmp_path / "onnx")
    stft = {**STFT, "window": "hamming"}
    other = make_experiment(tmp_path / "other", encoder_conf=stft, channels=8, heads=2)
    model = load_separate_speech(other, CHECKPOINT).enh_model
    with pytest.raises(ValueError, match="Hann window"):
        export_onnx(model, tmp_path / "onnx", Rate(16000, stated=True))
