"""A model's sampling rate: stated by its training, and the same wherever it is used."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile
import yaml

from espnet2_tfckd.deploy import command
from espnet2_tfckd.deploy.enhancer import load_enhancer
from espnet2_tfckd.deploy.parity import measure_parity
from espnet2_tfckd.models.configuration import rate_arguments
from espnet2_tfckd.stages.enhance import Inference, enhance
from espnet2_tfckd.stages.export import export_model
from tests.deploy.conftest import CAUSAL
from tests.stages.pairs import make_data_dir

CHECKPOINT = "valid.loss.best.pth"


@pytest.fixture(scope="module", params=[8000, 16000, 48000])
def rate(request):
    return request.param


@pytest.fixture(scope="module")
def model(rate, make_experiment, tmp_path_factory):
    """Experiment of a model as a training at that rate leaves it, its YAML naming 16 kHz."""
    from espnet2_tfckd.training.task import EnhancementTask

    exp_dir = make_experiment(tmp_path_factory.mktemp("rate") / "enh_model", **CAUSAL)
    arguments = ["--config", str(exp_dir / "train.yaml"), "--output_dir", str(exp_dir)]
    arguments += rate_arguments(rate, "stft", "stft")
    options = vars(EnhancementTask.get_parser().parse_args(arguments))
    (exp_dir / "config.yaml").write_text(yaml.safe_dump(options))
    return exp_dir


def say(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", *map(str, arguments)])
    command.main()
    return capsys.readouterr()


def test_info_export_and_parity_agree(model, rate, tmp_path, monkeypatch, capsys):
    meta = export_model(model, CHECKPOINT, model / "onnx")
    assert meta["sample_rate"] == rate and meta["latency_ms"] == 1000 * 128 / rate
    assert "sample_rate_assumed" not in meta
    for form in (model, model / "onnx"):
        said = say(monkeypatch, capsys, "info", form).out
        assert f"sampling rate            {rate} Hz\n" in said
        assert load_enhancer(str(form)).sample_rate == rate
    signal = 0.1 * np.random.default_rng(0).standard_normal(rate // 2)
    soundfile.write(tmp_path / "a.wav", signal, rate)
    torch, onnx = measure_parity(str(model), [str(tmp_path / "a.wav")], minutes=0.01)
    assert torch.holds and onnx.holds
    assert len(torch.frame_ms) == 60 * rate // 100 // 64 + 1


def test_audio_at_the_models_rate_is_not_resampled(model, rate, tmp_path, monkeypatch, capsys):
    for other in (8000, 16000, 48000):
        soundfile.write(tmp_path / "in.wav", np.zeros(other), other)
        call = ("enhance", tmp_path / "in.wav", "-o", tmp_path / "out.wav", "--model", model)
        said = say(monkeypatch, capsys, *call).err
        assert (f"resampled to the model's {rate} Hz" in said) == (other != rate)
        assert soundfile.info(tmp_path / "out.wav").samplerate == rate


@pytest.fixture
def no_profile(monkeypatch):
    """The stage without its measurement, which takes long."""
    monkeypatch.setattr("espnet2_tfckd.stages.enhance.write_profile", lambda *arguments: None)


@pytest.mark.usefixtures("no_profile")
def test_the_stage_refuses_data_at_another_rate(model, rate, tmp_path):
    make_data_dir(tmp_path / "data")  # at 16 kHz
    inference = Inference(str(model), CHECKPOINT, 16000)
    if rate == 16000:
        enhance(inference, tmp_path / "data", tmp_path / "enhanced", 1)
        return
    with pytest.raises(ValueError, match=f"works at {rate} Hz.*use --fs {rate // 1000}k"):
        enhance(inference, tmp_path / "data", tmp_path / "enhanced", 1)


@pytest.mark.usefixtures("no_profile")
@pytest.mark.parametrize(
    ("named", "hz"), [({}, 16000), ({"sample_rate": 8000}, 8000), ({"sample_rate": None}, 16000)]
)
def test_a_rate_that_nobody_stated_is_said_to_be_assumed(
    named, hz, make_experiment, tmp_path, monkeypatch, capsys
):
    exp_dir = make_experiment(tmp_path / "enh_stock", **CAUSAL)
    options = yaml.safe_load((exp_dir / "config.yaml").read_text())
    del options["sample_rate"]
    (exp_dir / "config.yaml").write_text(yaml.safe_dump(options | named))
    export_model(exp_dir, CHECKPOINT, exp_dir / "onnx")
    for form in (exp_dir, exp_dir / "onnx"):
        assert f"{hz} Hz (assumed" in say(monkeypatch, capsys, "info", form).out
    make_data_dir(tmp_path / "data")  # the stage takes the data's rate, as ESPnet does
    enhance(Inference(str(exp_dir), CHECKPOINT, 16000), tmp_path / "data", tmp_path / "out", 1)
