"""Experiments of untrained models for what takes a model out of training."""

from __future__ import annotations

import pytest
import torch
import yaml

STFT = {"n_fft": 128, "hop_length": 64}
LOSS = {"name": "si_snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {"weight": 1}}
CAUSAL = {"channels": 8, "heads": 2, "causal": True, "attention_window": 5}


def _make_experiment(
    folder, separator="dpdcrn", encoder_conf=STFT, decoder_conf=STFT, **separator_conf
):
    from espnet2_tfckd.training.task import EnhancementTask

    config = {
        "encoder": "stft",
        "encoder_conf": encoder_conf,
        "decoder": "stft",
        "decoder_conf": decoder_conf,
        "separator": separator,
        "separator_conf": separator_conf,
        "criterions": [LOSS],
        "sample_rate": 16000,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--config", str(folder / "train.yaml"), "--output_dir", str(folder)]
    args = EnhancementTask.get_parser().parse_args(arguments)
    torch.manual_seed(0)
    model = EnhancementTask.build_model(args)
    torch.save(model.state_dict(), folder / "valid.loss.best.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    return folder


@pytest.fixture(scope="session")
def make_experiment():
    """Function that makes the directory of an untrained model."""
    return _make_experiment


@pytest.fixture(scope="session")
def causal_exp(tmp_path_factory):
    """Experiment directory of a causal network."""
    return _make_experiment(tmp_path_factory.mktemp("causal") / "enh_causal", **CAUSAL)


@pytest.fixture(scope="session")
def offline_exp(tmp_path_factory):
    """Experiment directory of a network that looks ahead."""
    folder = tmp_path_factory.mktemp("offline") / "enh_offline"
    return _make_experiment(folder, channels=8, heads=2)


@pytest.fixture(scope="session")
def causal_onnx(causal_exp):
    """The causal network's export."""
    from espnet2_tfckd.stages.export import export_model

    folder = causal_exp.parent / "onnx"
    export_model(causal_exp, "valid.loss.best.pth", folder, license="CC-BY-4.0")
    return folder
