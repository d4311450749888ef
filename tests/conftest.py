"""A tiny stock ESPnet model and a small data directory, for tests that run models or stages."""

import contextlib
import shutil

import numpy as np
import pytest
import soundfile
import yaml

from espnet2_tfckd.data.datadir import DataDir, write_data_dir
from tests.stages.pairs import make_data_dir

RATE = 16000


def pytest_collection_modifyitems(items):
    """Files that run whole recipes come first, so that none is left alone at the end."""
    items.sort(key=lambda item: not item.path.name.startswith("test_recipes"))


@pytest.fixture(scope="session")
def tiny_model_files(tmp_path_factory):
    """Experiment directory of an untrained one-layer GRU masker, made by ESPnet's own task."""
    import torch
    from espnet2.tasks.enh import EnhancementTask

    exp_dir = tmp_path_factory.mktemp("model") / "enh_tiny"
    exp_dir.mkdir()
    stft = {"n_fft": 512, "hop_length": 256}
    rnn = {"rnn_type": "gru", "num_spk": 1, "nonlinear": "sigmoid", "layer": 1, "unit": 8}
    si_snr = {"name": "si_snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {"weight": 1}}
    config = {
        "encoder": "stft",
        "encoder_conf": stft,
        "separator": "rnn",
        "separator_conf": {**rnn, "dropout": 0.0},
        "decoder": "stft",
        "decoder_conf": stft,
        "criterions": [si_snr],
    }
    (exp_dir / "train.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--config", str(exp_dir / "train.yaml"), "--output_dir", str(exp_dir)]
    args = EnhancementTask.get_parser().parse_args(arguments)
    torch.manual_seed(0)
    model = EnhancementTask.build_model(args)
    (exp_dir / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    torch.save(model.state_dict(), exp_dir / "valid.loss.best.pth")
    return exp_dir


@pytest.fixture
def tiny_model(tiny_model_files, tmp_path):
    """The tiny model's experiment directory, a copy that a test may spoil."""
    return shutil.copytree(tiny_model_files, tmp_path / "exp" / "enh_tiny")


@pytest.fixture
def data_dir(tmp_path):
    """Data directory of four utterances of 0.5 to 0.8 s, two at each SNR and of each noise."""
    rng = np.random.default_rng(0)
    wavs = tmp_path / "audio"
    wavs.mkdir()
    data = DataDir({}, {}, {})
    for number in range(4):
        utt = f"spk-utt{number}"
        reference = rng.standard_normal(8000 + 1600 * number) * 0.05
        reference *= np.repeat(rng.random(len(reference) // 800), 800)
        snr = (0, 10)[number % 2]
        noise = rng.standard_normal(len(reference))
        noise *= np.linalg.norm(reference) / np.linalg.norm(noise) * 10 ** (-snr / 20)
        for name, signal in (("mixture", reference + noise), ("reference", reference)):
            soundfile.write(wavs / f"{utt}_{name}.wav", signal, RATE, "FLOAT")
        data.mixture[utt] = str(wavs / f"{utt}_mixture.wav")
        data.reference[utt] = str(wavs / f"{utt}_reference.wav")
        data.speaker[utt] = "spk"
        data.metadata[utt] = {"snr_db": f"{snr:.2f}", "noise_kind": ("wind", "music")[number // 2]}
    write_data_dir(tmp_path / "dump" / "test", data)
    return tmp_path / "dump" / "test"


@pytest.fixture
def rewrite_audio():
    """Function that replaces the contents of an audio file."""

    def rewrite(path, signal, rate=RATE):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        soundfile.write(path, signal, rate, "FLOAT")

    return rewrite


@pytest.fixture
def pairs_dir(tmp_path):
    """Data directory of a few pairs, see tests.stages.pairs."""
    make_data_dir(tmp_path / "in")
    return tmp_path / "in"
