"""The command espnet2-tfckd: any audio, any form of model, bounded memory, errors by name."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import yaml

from espnet2_tfckd.deploy import command, enhancer, onnx_enhance
from espnet2_tfckd.deploy.enhancer import TorchEnhancer, load_enhancer
from espnet2_tfckd.deploy.streaming import whole_hops
from espnet2_tfckd.stages.export import export_model

CHECKPOINT = "valid.loss.best.pth"


def noise(samples, channels=1, seed=0):
    signal = 0.1 * np.random.default_rng(seed).standard_normal((samples, channels))
    return signal.astype(np.float32)


@pytest.fixture
def noisy(tmp_path):
    """Two files below a folder."""
    folder = tmp_path / "noisy"
    (folder / "deep").mkdir(parents=True)
    soundfile.write(folder / "a.wav", noise(5000), 16000, "FLOAT")
    soundfile.write(folder / "deep" / "b.flac", noise(6000, seed=1), 16000)
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", *map(str, arguments)])
    command.main()


def at_once(exp_dir, signal):
    from espnet2.bin.enh_inference import SeparateSpeech

    model = SeparateSpeech(exp_dir / "config.yaml", exp_dir / CHECKPOINT)
    padded = whole_hops(signal, 128, 64)  # of any other length, ESPnet's last samples are a click
    return model(padded.T, fs=16000)[0][0][: len(signal)]


@pytest.mark.parametrize("options", [[], ["--streaming"]])
def test_a_causal_model_gives_what_espnet_gives_at_once(
    options, noisy, causal_exp, tmp_path, monkeypatch
):
    output = tmp_path / "out.wav"
    run(monkeypatch, "enhance", noisy / "a.wav", "--model", causal_exp, "-o", output, *options)
    estimate, rate = soundfile.read(output, dtype="float32")
    assert rate == 16000 and soundfile.info(output).subtype == "FLOAT"
    np.testing.assert_allclose(estimate, at_once(causal_exp, noise(5000)), atol=1e-5)


def test_a_model_that_looks_ahead_gives_what_espnet_gives(
    noisy, offline_exp, tmp_path, monkeypatch
):
    output = tmp_path / "out.wav"
    run(monkeypatch, "enhance", noisy / "a.wav", "--model", offline_exp, "-o", output)
    estimate, _ = soundfile.read(output, dtype="float32")
    np.testing.assert_allclose(estimate, at_once(offline_exp, noise(5000)), atol=1e-5)


def test_long_audio_of_a_causal_model_has_no_seams(causal_exp, monkeypatch):
    """Handed over a few frames and a few samples at a time, the result stays the same."""
    monkeypatch.setattr(enhancer, "_FRAMES_PER_STEP", 3)
    signal = noise(20_000)
    model = TorchEnhancer(causal_exp)
    blocks = (signal[start : start + 777] for start in range(0, len(signal), 777))
    estimate = np.concatenate(list(model.enhance(blocks)))
    np.testing.assert_allclose(estimate, at_once(causal_exp, signal), atol=1e-5)


def test_long_audio_of_other_models_is_enhanced_in_windows(offline_exp, monkeypatch):
    monkeypatch.setattr(enhancer, "_WINDOW_SECONDS", 2)
    signal = noise(5 * 16000)
    model = TorchEnhancer(offline_exp)
    longest = []
    whole = model.enhance_at_once
    monkeypatch.setattr(model, "enhance_at_once", lambda w: longest.append(len(w)) or whole(w))
    estimate = np.concatenate(list(model.enhance([signal])))
    assert len(estimate) == len(signal) and max(longest) <= 3 * 16000
    np.testing.assert_allclose(
        estimate[:16000], at_once(offline_exp, signal[:32000])[:16000], atol=1e-5
    )


def test_folders_keep_their_shape_and_several_files_run_at_a_time(
    noisy, causal_onnx, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    run(monkeypatch, "enhance", noisy, "--model", causal_onnx, "-o", output, "--nj", 2)
    assert sorted(str(p.relative_to(output)) for p in output.rglob("*.*")) == [
        "a.wav",
        "deep/b.flac",
    ]
    assert soundfile.info(output / "deep" / "b.flac").frames == 6000


def test_other_rates_and_channels_are_brought_to_the_models_with_a_message(
    causal_onnx, tmp_path, monkeypatch, capsys
):
    soundfile.write(tmp_path / "in.wav", noise(48000, 2), 48000)
    output = tmp_path / "out.wav"
    run(monkeypatch, "enhance", tmp_path / "in.wav", "--model", causal_onnx, "-o", output)
    info, said = soundfile.info(output), capsys.readouterr().err
    assert (info.frames, info.samplerate, info.channels) == (16000, 16000, 1)
    assert "48000 Hz, resampled" in said and "2 channels, of which channel 0 is taken" in said


def test_a_model_that_states_no_rate_is_given_one(
    causal_exp, causal_onnx, tmp_path, monkeypatch, capsys
):
    exp_dir = shutil.copytree(causal_exp, tmp_path / "enh_stock")
    options = yaml.safe_load((exp_dir / "config.yaml").read_text())
    (exp_dir / "config.yaml").write_text(yaml.safe_dump({**options, "sample_rate": 8000}))
    soundfile.write(tmp_path / "in.wav", noise(16000), 16000)
    call = ["enhance", tmp_path / "in.wav", "--model", exp_dir, "-o", tmp_path / "out.wav"]
    run(monkeypatch, *call)
    assert "resampled to the model's 8000 Hz (assumed" in capsys.readouterr().err
    assert soundfile.info(tmp_path / "out.wav").samplerate == 8000
    run(monkeypatch, *call, "--fs", "16k")
    assert soundfile.info(tmp_path / "out.wav").samplerate == 16000
    with pytest.raises(ValueError, match="works at 16000 Hz, not at 8000 Hz: leave --fs out"):
        load_enhancer(str(causal_onnx), fs=8000)


def test_a_model_that_scales_its_mixture_is_not_run_frame_by_frame(causal_exp, tmp_path):
    exp_dir = shutil.copytree(causal_exp, tmp_path / "enh_scaling")
    options = yaml.safe_load((exp_dir / "config.yaml").read_text())
    options["model_conf"]["normalize_variance"] = True
    (exp_dir / "config.yaml").write_text(yaml.safe_dump(options))
    quiet = 0.003 * noise(5000)
    estimate = np.concatenate(list(load_enhancer(str(exp_dir)).enhance([quiet])))
    np.testing.assert_allclose(estimate, at_once(exp_dir, quiet), atol=1e-7)
    with pytest.raises(ValueError, match="without model_conf.normalize_variance"):
        export_model(exp_dir, CHECKPOINT, tmp_path / "onnx")


def test_an_export_is_loaded_once_and_signals_at_a_time_do_not_mix(causal_onnx, monkeypatch):
    loaded = []
    load = onnx_enhance.ExportedModel.__init__
    monkeypatch.setattr(
        onnx_enhance.ExportedModel,
        "__init__",
        lambda self, *arguments, **options: (
            loaded.append(self) or load(self, *arguments, **options)
        ),
    )
    model, signals = load_enhancer(str(causal_onnx)), [noise(5000, seed=n) for n in (1, 2)]
    apart = [np.concatenate(list(model.enhance([signal]))) for signal in signals]
    assert len(loaded) == 1
    streams = [model.enhance(np.split(signal, 10)) for signal in signals]
    next(streams[0]), streams[1].close()  # one is under way, and one was given up
    together = list(zip(*(model.enhance(np.split(signal, 10)) for signal in signals), strict=True))
    for whole, parts in zip(apart, zip(*together, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_level_is_kept(causal_onnx):
    """Twice as loud in, not brought to the same peak out."""
    model = load_enhancer(str(causal_onnx))
    quiet, loud = (np.concatenate(list(model.enhance([g * noise(5000)]))) for g in (0.01, 1))
    assert 5 < np.abs(loud).max() / np.abs(quiet).max() < 500


@pytest.mark.parametrize("form", ["onnx", "espnet"])
def test_standard_input_goes_to_standard_output(form, causal_onnx, causal_exp):
    """And nothing else, whatever ESPnet prints."""
    model = causal_onnx if form == "onnx" else causal_exp
    wav = io.BytesIO()
    soundfile.write(wav, noise(5000), 16000, "FLOAT", format="wav")
    call = [sys.executable, "-m", "espnet2_tfckd", "enhance", "-", "-o", "-", "--model"]
    done = subprocess.run([*call, str(model)], input=wav.getvalue(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"RIFF")
    estimate, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    assert rate == 16000 and len(estimate) == 5000


def test_files_that_fail_are_named_and_the_others_are_enhanced(
    noisy, causal_onnx, tmp_path, monkeypatch, capsys
):
    (noisy / "broken.wav").write_bytes(b"RIFF not really")
    soundfile.write(noisy / "empty.wav", noise(0), 16000)
    soundfile.write(noisy / "nan.wav", np.full(5000, np.nan, np.float32), 16000, "FLOAT")
    soundfile.write(noisy / "slow.wav", noise(10), 1)
    output = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "enhance", noisy, "--model", causal_onnx, "-o", output)
    said = capsys.readouterr().err
    assert end.value.code == 1 and "4 of 6 files could not be enhanced" in said
    for name, fault in (
        ("empty", "is empty"),
        ("nan", "not a number"),
        ("slow", "header states 1 Hz"),
    ):
        assert f"{name}.wav" in said and fault in said
    assert "broken.wav" in said
    assert sorted(p.name for p in output.rglob("*.*")) == ["a.wav", "b.flac"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.wav", "-o", "out.wav"], "missing.wav is not there"),
        (["{noisy}", "-o", "-"], "several files cannot go to one"),
        (["{noisy}/a.wav", "-o", "out.wav", "--streaming"], "looks ahead"),
    ],
)
def test_what_cannot_be_done_is_refused(
    arguments, message, noisy, offline_exp, monkeypatch, capsys
):
    arguments = [argument.replace("{noisy}", str(noisy)) for argument in arguments]
    with pytest.raises(SystemExit):
        run(monkeypatch, "enhance", *arguments, "--model", offline_exp)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("model", ["nowhere", "./no/model", "{noisy}"])
def test_what_is_no_model_is_refused_by_name(model, noisy):
    model = model.replace("{noisy}", str(noisy))
    with pytest.raises((FileNotFoundError, ValueError), match=model):
        load_enhancer(model)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.yaml", b"", "is not a configuration"),
        ("config.yaml", b"[1, 2", "is not valid YAML"),
        ("config.yaml", b"\xff\xfe\x00", "is not valid YAML"),
        ("config.yaml", b"- encoder", "is not a configuration"),
        ("config.yaml", b"separator: dpdcrn", "it lacks encoder, encoder_conf, separator_conf"),
        ("config.yaml", b"!!python/object/apply:os.system [id]", "is not valid YAML"),
        (CHECKPOINT, b"", "it is empty"),
        (CHECKPOINT, b"garbage", "cannot be read as a checkpoint"),
    ],
)
def test_a_damaged_experiment_ends_in_one_line(
    name, content, words, noisy, causal_exp, tmp_path, monkeypatch, capsys
):
    exp_dir = shutil.copytree(causal_exp, tmp_path / "enh_damaged")
    (exp_dir / name).write_bytes(content)
    output = tmp_path / "out"
    for call in (["info", exp_dir], ["enhance", noisy, "--model", exp_dir, "-o", output]):
        with pytest.raises(SystemExit) as end:
            run(monkeypatch, *call)
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert end.value.code == 1 and len(lines) == 1
        assert words in lines[0] and str(exp_dir / name) in lines[0]
    assert not output.exists()


def test_a_device_that_is_not_there_is_named(noisy, causal_exp, tmp_path, monkeypatch, capsys):
    for device in ("cuda:99", "toaster"):
        call = ("enhance", noisy, "--model", causal_exp, "-o", tmp_path / "out")
        with pytest.raises(SystemExit):
            run(monkeypatch, *call, "--device", device)
        assert f"device {device} cannot be used" in capsys.readouterr().err


def test_a_packed_model_is_unpacked_and_used(causal_exp, tmp_path, monkeypatch):
    from espnet2_tfckd.stages.pack import pack_model

    monkeypatch.setattr(enhancer, "CACHE", tmp_path / "cache")
    packed = pack_model(causal_exp, CHECKPOINT, tmp_path / "packed.zip")
    model = load_enhancer(str(packed))
    assert model.causal and model.sample_rate == 16000


def test_info_tells_what_a_model_is(causal_exp, causal_onnx, monkeypatch, capsys):
    for model, form in ((causal_exp, "separator DPDCRNSeparator"), (causal_onnx, "ONNX")):
        run(monkeypatch, "info", model)
        said = capsys.readouterr().out
        assert form in said and "16000 Hz" in said and "algorithmic latency      8 ms" in said
