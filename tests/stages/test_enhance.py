"""Enhancement: faithful output, resuming, and bad models and mixtures named in errors."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet2_tfckd.data.datadir import read_data_dir, read_scp, write_data_dir
from espnet2_tfckd.deploy.streaming import separated
from espnet2_tfckd.models import parallel as enhance_workers
from espnet2_tfckd.models.inference import load_separate_speech
from espnet2_tfckd.stages.enhance import Inference, enhance

CHECKPOINT = "valid.loss.best.pth"


@pytest.fixture
def inference(tiny_model):
    return Inference(str(tiny_model), CHECKPOINT, 16000)


@pytest.fixture
def output_dir(tiny_model):
    return tiny_model / "enhanced_test"


def change_weights(tiny_model, change):
    weights = torch.load(tiny_model / CHECKPOINT)
    torch.save(change(weights), tiny_model / CHECKPOINT)


def modified(scp):
    return {utt: Path(path).stat().st_mtime_ns for utt, path in read_scp(scp).items()}


def test_output_is_what_the_model_gives_at_full_length_and_scale(inference, data_dir, output_dir):
    mixtures = read_data_dir(data_dir).mixture
    loud = Path(next(iter(mixtures.values())))
    samples = soundfile.read(loud)[0]
    soundfile.write(loud, samples / np.abs(samples).max() * 8, 16000, "FLOAT")
    scp = enhance(inference, data_dir, output_dir, num_jobs=1)
    model = load_separate_speech(inference.exp_dir, CHECKPOINT)
    assert list(read_scp(scp)) == list(mixtures)
    peaks = []
    for utt, path in read_scp(scp).items():
        mixture = soundfile.read(mixtures[utt], dtype="float32")[0]
        estimate, sample_rate = soundfile.read(path, dtype="float32")
        expected = separated(model, mixture[:, None], 16000)
        settled = len(mixture) // 256 * 256
        espnets = model(mixture[None], fs=16000)[0][0]
        np.testing.assert_allclose(estimate[:settled], espnets[:settled], atol=1e-6)
        assert sample_rate == 16000
        assert estimate.shape == mixture.shape
        np.testing.assert_allclose(estimate, expected, atol=1e-6)
        peaks.append(np.abs(estimate).max())
    assert max(peaks) > 1  # neither clipped nor rescaled
    assert (Path(inference.exp_dir) / "profile.json").exists()


@pytest.mark.parametrize("samples", [1, 2, 100, 255, 256, 257, 511])
def test_any_length_is_enhanced_without_a_click(samples, inference, data_dir, output_dir):
    for path in read_data_dir(data_dir).mixture.values():
        soundfile.write(path, soundfile.read(path)[0][:samples] + 1e-3, 16000, "FLOAT")
    scp = enhance(inference, data_dir, output_dir, num_jobs=1)
    for utt, path in read_scp(scp).items():
        mixture = soundfile.read(read_data_dir(data_dir).mixture[utt])[0]
        estimate = soundfile.read(path)[0]
        assert len(estimate) == samples
        assert np.abs(estimate).max() < 3 * np.abs(mixture).max()


def test_estimates_never_replace_their_mixtures(inference, data_dir, output_dir):
    data = read_data_dir(data_dir)
    utt, path = next(iter(data.mixture.items()))
    own = output_dir / "wavs" / f"{utt}.wav"
    own.parent.mkdir(parents=True)
    Path(path).rename(own)
    write_data_dir(data_dir, replace(data, mixture={**data.mixture, utt: str(own)}))
    before = own.read_bytes()
    with pytest.raises(ValueError, match=f"{own} is the input"):
        enhance(inference, data_dir, output_dir, num_jobs=1)
    assert own.read_bytes() == before


def test_rerun_makes_only_what_is_missing(inference, data_dir, output_dir):
    before = modified(enhance(inference, data_dir, output_dir, num_jobs=1))
    (output_dir / "wavs" / "spk-utt1.wav").unlink()
    after = modified(enhance(inference, data_dir, output_dir, num_jobs=1))
    assert [utt for utt in before if after[utt] != before[utt]] == ["spk-utt1"]


def test_another_mixture_is_enhanced_again_however_old_it_is(inference, data_dir, output_dir):
    before = modified(enhance(inference, data_dir, output_dir, num_jobs=1))
    path = Path(read_data_dir(data_dir).mixture["spk-utt2"])
    samples, rate = soundfile.read(path)
    other = path.with_name("other.wav")
    soundfile.write(other, samples[::-1], rate, soundfile.info(path).subtype)
    os.utime(other, (0, 0))
    other.replace(path)
    after = modified(enhance(inference, data_dir, output_dir, num_jobs=1))
    assert [utt for utt in before if after[utt] != before[utt]] == ["spk-utt2"]


def test_a_touched_mixture_is_not_enhanced_again(inference, data_dir, output_dir):
    before = modified(enhance(inference, data_dir, output_dir, num_jobs=1))
    Path(read_data_dir(data_dir).mixture["spk-utt2"]).touch()
    assert modified(enhance(inference, data_dir, output_dir, num_jobs=1)) == before


def test_audio_of_others_is_not_overwritten(inference, data_dir, output_dir):
    (output_dir / "wavs").mkdir(parents=True)
    own = output_dir / "wavs" / "spk-utt1.wav"
    own.write_bytes(b"a recording")
    with pytest.raises(ValueError, match="holds audio that this stage did not write"):
        enhance(inference, data_dir, output_dir, num_jobs=1)
    assert own.read_bytes() == b"a recording"


def test_costs_are_measured_once_and_again_for_another_model(
    inference, tiny_model, data_dir, output_dir, monkeypatch
):
    profile = tiny_model / "profile.json"
    enhance(inference, data_dir, output_dir, num_jobs=1)
    first = profile.stat().st_mtime_ns
    (tiny_model / "unrelated").touch()
    enhance(inference, data_dir, output_dir, num_jobs=1)
    assert profile.stat().st_mtime_ns == first
    change_weights(tiny_model, lambda weights: {k: v * 0.5 for k, v in weights.items()})
    enhance(inference, data_dir, output_dir, num_jobs=1)
    second = profile.stat().st_mtime_ns
    monkeypatch.setattr("espnet2_tfckd.models.cost.cpu_name", lambda: "another processor")
    enhance(inference, data_dir, output_dir, num_jobs=1)
    assert first < second < profile.stat().st_mtime_ns


def test_new_checkpoint_enhances_everything_again(inference, tiny_model, data_dir, output_dir):
    before = modified(enhance(inference, data_dir, output_dir, num_jobs=1))
    change_weights(tiny_model, lambda weights: {k: v * 0.5 for k, v in weights.items()})
    after = modified(enhance(inference, data_dir, output_dir, num_jobs=1))
    assert all(after[utt] > before[utt] for utt in before)


def test_command_with_two_jobs_writes_the_same(inference, data_dir, output_dir, tmp_path):
    scp = enhance(inference, data_dir, output_dir, num_jobs=1)
    command = [sys.executable, "-m", "espnet2_tfckd.stages.enhance", "--nj", "2"]
    command += ["--exp_dir", inference.exp_dir, "--data_dir", str(data_dir)]
    command += ["--output_dir", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"Enhanced audio: {tmp_path / 'two' / 'spk1.scp'}"
    for utt, path in read_scp(tmp_path / "two" / "spk1.scp").items():
        np.testing.assert_allclose(
            soundfile.read(path)[0], soundfile.read(read_scp(scp)[utt])[0], atol=1e-6
        )


def test_workers_that_are_not_forked_write_the_same(
    inference, tiny_model, data_dir, output_dir, monkeypatch
):
    """As on macOS, where forking is not safe and no process tells which cores it may use."""
    scp = enhance(inference, data_dir, output_dir, num_jobs=1)
    monkeypatch.setattr(enhance_workers, "START_METHOD", "spawn")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    spawned = enhance(inference, data_dir, tiny_model / "enhanced_two", num_jobs=2)
    for utt, path in read_scp(spawned).items():
        np.testing.assert_allclose(
            soundfile.read(path)[0], soundfile.read(read_scp(scp)[utt])[0], atol=1e-6
        )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "best.pth is not there; checkpoints in .*: none"),
        (lambda path: path.write_bytes(b"no weights"), "best.pth cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "best.pth cannot be read"),
        (lambda path: torch.save({"a": torch.ones(1)}, path), "best.pth does not fit the model"),
        (lambda path: torch.save([torch.ones(1)], path), "best.pth holds no weights"),
    ],
    ids=["missing", "text", "cut short", "wrong keys", "no dictionary"],
)
def test_bad_checkpoint_is_named(inference, tiny_model, data_dir, output_dir, spoil, message):
    spoil(tiny_model / CHECKPOINT)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        enhance(inference, data_dir, output_dir, num_jobs=1)


def test_checkpoint_that_lacks_one_weight_is_refused(inference, tiny_model, data_dir, output_dir):
    change_weights(tiny_model, lambda weights: dict(list(weights.items())[1:]))
    with pytest.raises(ValueError, match="does not fit the model"):
        enhance(inference, data_dir, output_dir, num_jobs=1)


def test_estimate_with_nan_names_the_utterance(inference, tiny_model, data_dir, output_dir):
    change_weights(tiny_model, lambda weights: {k: v * torch.nan for k, v in weights.items()})
    with pytest.raises(ValueError, match="spk-utt0: the estimate has NaN"):
        enhance(inference, data_dir, output_dir, num_jobs=1)
    assert not (output_dir / "spk1.scp").exists()


@pytest.mark.parametrize(
    ("signal", "rate", "message"),
    [
        (np.zeros(0), 16000, "spk-utt1: the mixture is empty"),
        (np.full(8000, np.nan), 16000, "spk-utt1: the mixture is empty or has NaN"),
        (np.ones(8000), 8000, "spk-utt1: mixture at 8000 Hz, not at 16000 Hz"),
        (np.ones((8000, 2)), 16000, "spk-utt1: the model fails on 8000 samples in 2 channels"),
    ],
    ids=["empty", "NaN", "rate", "channels"],
)
def test_bad_mixture_is_named_and_the_others_are_kept(
    inference, data_dir, output_dir, rewrite_audio, signal, rate, message
):
    rewrite_audio(Path(read_data_dir(data_dir).mixture["spk-utt1"]), signal, rate)
    with pytest.raises(ValueError, match=message):
        enhance(inference, data_dir, output_dir, num_jobs=1)
    made = sorted(path.stem for path in (output_dir / "wavs").iterdir())
    assert made == ["spk-utt0", "spk-utt2", "spk-utt3"]
    assert not (output_dir / "spk1.scp").exists()


def test_silent_mixture_stays_silent(inference, data_dir, output_dir, rewrite_audio):
    rewrite_audio(Path(read_data_dir(data_dir).mixture["spk-utt1"]), np.zeros(8000))
    scp = enhance(inference, data_dir, output_dir, num_jobs=1)
    assert np.abs(soundfile.read(read_scp(scp)["spk-utt1"])[0]).max() < 1e-4


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_reported(inference, data_dir, output_dir):
    with pytest.raises(ValueError, match="--ngpu 1, but torch finds 0 GPUs"):
        enhance(inference, data_dir, output_dir, num_jobs=1, num_gpus=1)
