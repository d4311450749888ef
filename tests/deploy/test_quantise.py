"""Networks of 8 bits: close to their originals, measured, and chosen by one option."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.data.datadir import DataDir, write_data_dir
from espnet2_tfckd.deploy import command
from espnet2_tfckd.deploy.enhancer import load_enhancer
from espnet2_tfckd.deploy.onnx_enhance import ExportedModel
from espnet2_tfckd.deploy.quantise import quantise_export
from espnet2_tfckd.scoring.metrics import si_sdr
from espnet2_tfckd.stages import export

RATE = 16000
# SI-SDR of an estimate of 8 bits towards the original's; the offline network has one range for all
# frames, the streaming one a range for each
CLOSE_DB = {"streaming": 25, "offline": 15}


def speech(seed: int, samples: int = RATE) -> np.ndarray:
    """Syllables of noise."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.random(samples // 800 + 1), 800)[:samples]
    return (0.1 * rng.standard_normal(samples) * loudness).astype(np.float32)


def make_data_dir(folder, rate=RATE):
    data = DataDir({}, {}, {})
    folder.mkdir(parents=True)
    for number in range(3):
        utterance, reference = f"ann-{number}", speech(number)
        mixture = reference + 0.02 * speech(number + 10)
        for table, signal in ((data.mixture, mixture), (data.reference, reference)):
            path = folder / f"{utterance}_{'mix' if table is data.mixture else 'ref'}.wav"
            soundfile.write(path, signal, rate, "FLOAT")
            table[utterance] = str(path)
        data.speaker[utterance] = "ann"
    write_data_dir(folder, data)
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return make_data_dir(tmp_path_factory.mktemp("data") / "test")


@pytest.fixture(scope="module")
def quantised(causal_onnx, data_dir, tmp_path_factory):
    """Folder of an export with networks of 8 bits."""
    folder = shutil.copytree(causal_onnx, tmp_path_factory.mktemp("int8") / "onnx")
    quantise_export(folder, data_dir, num_utterances=2)
    return folder


def test_meta_tells_size_loss_and_time_of_each_network(quantised, data_dir):
    meta = json.loads((quantised / "meta.json").read_text())
    assert meta["models"].keys() == {"offline", "streaming"}
    for name, model in meta["models"].items():
        int8 = model["int8"]
        assert int8["bytes"] == (quantised / int8["file"]).stat().st_size
        assert int8["float_bytes"] == (quantised / model["file"]).stat().st_size
        assert np.isfinite([int8["si_sdr_change"], int8["pesq_wb_change"]]).all()
        assert abs(int8["si_sdr_change"]) < 0.5
        assert int8["si_sdr_to_float"] > CLOSE_DB[name]
        assert int8["time_ratio"] > 0
        assert int8["num_utterances"] == 2 and int8["data_dir"] == str(data_dir)


def test_the_loss_is_the_difference_of_the_scores(quantised, data_dir):
    meta = quantise_export(quantised, data_dir, num_utterances=1)
    int8 = meta["models"]["streaming"]["int8"]
    mixture, _ = soundfile.read(data_dir / "ann-0_mix.wav", dtype="float32", always_2d=True)
    reference, _ = soundfile.read(data_dir / "ann-0_ref.wav")
    scores = [
        si_sdr(reference, ExportedModel(quantised, int8=precision).enhance(mixture), RATE)
        for precision in (True, False)
    ]
    assert int8["si_sdr_change"] == pytest.approx(scores[0] - scores[1], abs=1e-4)


@pytest.mark.parametrize("name", ["streaming", "offline"])
def test_estimates_are_close_to_those_of_the_original_and_not_the_same(quantised, name):
    mixture = speech(5)[:, None]
    original, estimate = (
        ExportedModel(quantised, name == "offline", int8).enhance(mixture).astype(np.float64)
        for int8 in (False, True)
    )
    assert CLOSE_DB[name] < si_sdr(original, estimate, RATE) < 100


def test_the_example_and_the_command_take_the_option(quantised, tmp_path, monkeypatch):
    mixture = speech(6, 5000)
    soundfile.write(tmp_path / "noisy.wav", mixture, RATE, "FLOAT")
    expected = ExportedModel(quantised, int8=True).enhance(mixture[:, None])
    files = [str(tmp_path / name) for name in ("noisy.wav", "example.wav")]
    done = subprocess.run([sys.executable, str(quantised / "enhance.py"), *files, "--int8"])
    assert done.returncode == 0
    arguments = ["enhance", files[0], "--model", str(quantised), "-o", str(tmp_path / "own.wav")]
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", *arguments, "--int8"])
    command.main()
    for name in ("example.wav", "own.wav"):
        estimate, _ = soundfile.read(tmp_path / name, dtype="float32")
        np.testing.assert_allclose(estimate, expected, atol=1e-5)


def test_the_stage_writes_them_when_asked_to_and_removes_old_ones(
    causal_exp, data_dir, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "onnx"
    arguments = ["export", "--exp_dir", str(causal_exp), "--folder", str(folder)]
    quantise = ["--quantise", "--data_dir", str(data_dir)]
    monkeypatch.setattr(sys, "argv", arguments + quantise)
    export.main()
    assert "streaming.int8.onnx: " in capsys.readouterr().out
    assert len(list(folder.glob("*.int8.onnx"))) == 2
    monkeypatch.setattr(sys, "argv", arguments)
    export.main()
    assert not list(folder.glob("*.int8.onnx"))
    with pytest.raises(ValueError, match="onnx holds no int8 networks"):
        load_enhancer(str(folder), int8=True)
    with pytest.raises(ValueError, match="onnx holds no int8 networks"):
        ExportedModel(folder, int8=True)


@pytest.mark.parametrize("options", [["--quantise"], ["--data_dir", "somewhere"]])
def test_the_options_of_the_stage_go_together(options, causal_exp, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["export", "--exp_dir", str(causal_exp), *options])
    with pytest.raises(ValueError, match="--quantise and --data_dir go together"):
        export.main()


def test_experiments_have_no_int8_networks(causal_exp):
    with pytest.raises(ValueError, match="is not an ONNX export"):
        load_enhancer(str(causal_exp), int8=True)


def test_data_and_folder_that_do_not_fit_are_refused(causal_onnx, data_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="meta.json is not there: export the model first"):
        quantise_export(tmp_path, data_dir)
    folder = shutil.copytree(causal_onnx, tmp_path / "onnx")
    with pytest.raises(ValueError, match=r"8000 Hz and 1 channel\(s\), the model takes 16000 Hz"):
        quantise_export(folder, make_data_dir(tmp_path / "other", rate=8000))
    with pytest.raises(FileNotFoundError, match="is not a data directory"):
        quantise_export(folder, tmp_path / "nothing")
    assert not list(folder.glob("*.int8.onnx"))
