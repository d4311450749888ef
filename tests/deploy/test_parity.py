"""The check that streaming does what the model at once does."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.deploy import command, enhancer
from espnet2_tfckd.deploy.parity import CHUNKS, Parity, measure_parity


@pytest.fixture
def audio(tmp_path):
    """A file of 1.2 s at another rate than the model's."""
    path = tmp_path / "noisy.wav"
    signal = 0.1 * np.random.default_rng(0).standard_normal(26460)
    soundfile.write(path, signal, 22050, "FLOAT")
    return str(path)


@pytest.fixture
def exported(causal_exp, causal_onnx, tmp_path):
    """A causal experiment with its export."""
    folder = shutil.copytree(causal_exp, tmp_path / "enh_causal")
    shutil.copytree(causal_onnx, folder / "onnx")
    return str(folder)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", "parity", *arguments])
    command.main()


def test_torch_and_onnx_agree_with_the_whole_at_once(exported, audio):
    torch, onnx = measure_parity(exported, [audio], minutes=0.05)
    assert (torch.name, onnx.name) == ("torch", "onnx")
    assert set(torch.differences) == set(CHUNKS) and set(onnx.differences) == {1}
    for result in (torch, onnx):
        assert result.holds
        assert 0 < max(result.differences.values()) < 1e-5
        assert 0 <= result.long_difference < 1e-5
        # 3 s at 16 kHz, hop 64, and the frame at the end
        assert len(result.frame_ms) == 3 * 16000 // 64 + 1
        assert min(result.frame_ms) > 0


def test_the_figures_are_printed(exported, audio, monkeypatch, capsys):
    run(monkeypatch, exported, audio, "--minutes", "0.05")
    shown = capsys.readouterr().out
    assert "torch, frame by frame" in shown and "onnx, frame by frame" in shown
    assert "751 frames in a row" in shown and "MiB" in shown


def test_a_difference_ends_it_with_an_error(exported, audio, monkeypatch, capsys):
    """A network that forgets its states."""
    call = enhancer._Steps.__call__

    def forgetful(self, spectrum):
        self.states = None
        return call(self, spectrum)

    monkeypatch.setattr(enhancer._Steps, "__call__", forgetful)
    with pytest.raises(SystemExit, match="1"):
        run(monkeypatch, exported, audio, "--minutes", "0.05")
    assert "differs frame by frame by more than rounding (torch: 1e-05" in capsys.readouterr().err


def test_a_difference_in_the_long_run_counts():
    assert Parity("torch", {1: 1e-7}, 1e-6).holds
    assert not Parity("torch", {1: 1e-7}, 1e-4).holds
    assert not Parity("onnx", {1: float("nan")}, 0.0).holds


@pytest.mark.parametrize(
    "content, message", [(np.zeros(80), "too short"), (np.full(9000, np.nan), "not a number")]
)
def test_a_file_that_cannot_be_compared_is_named(content, message, exported, tmp_path):
    path = str(tmp_path / "bad.wav")
    soundfile.write(path, content, 16000, "FLOAT")
    with pytest.raises(ValueError, match=f"bad.wav: .*{message}"):
        measure_parity(exported, [path], minutes=0.05)


def test_a_model_that_looks_ahead_is_refused(offline_exp, audio):
    with pytest.raises(ValueError, match="looks ahead"):
        measure_parity(str(offline_exp), [audio], minutes=0.05)


def test_the_length_must_be_a_number_above_zero(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "model", "a.wav", "--minutes", "0")
    assert "0 is not a number above 0" in capsys.readouterr().err
