"""A tiny distillation, as options and as a model."""

from __future__ import annotations

import torch
import yaml

from espnet2_tfckd.training.task import EnhancementKDTask

CHUNK = 4096
FUSING = ("clskd", "i2srf_tfckd", "reviewkd", "rfpkd")  # whose width is an option


def configuration(**changes) -> dict:
    stft = {"n_fft": 64, "hop_length": 32}
    return {
        "encoder": "stft",
        "encoder_conf": stft,
        "separator": "dpdcrn",
        "separator_conf": {"channels": 8, "heads": 2, "blocks": 1},
        "decoder": "stft",
        "decoder_conf": stft,
        "criterions": [
            {"name": "snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {"weight": 1.0}}
        ],
        "iterator_type": "chunk",
        "chunk_length": CHUNK,
        "batch_size": 2,
        "num_workers": 0,
        "max_epoch": 1,
        "optim": "adam",
        "use_tensorboard": True,
        "log_interval": 1,
        "best_model_criterion": [["valid", "loss", "min"]],
        **changes,
    }


def write_yaml(path, content):
    path.write_text(yaml.safe_dump(content))
    return str(path)


def kd_options(folder, teacher_files, **changes):
    config = configuration(
        teacher_config=str(teacher_files / "config.yaml"),
        teacher_model_file=str(teacher_files / "teacher.pth"),
        **{"distiller": "i2srf_tfckd", "distiller_conf": {"fusion_channels": 8}, **changes},
    )
    folder.mkdir(exist_ok=True)
    return ["--config", write_yaml(folder / "kd.yaml", config), "--output_dir", str(folder)]


def build(folder, teacher_files, **changes):
    options = kd_options(folder, teacher_files, **changes)
    torch.manual_seed(0)
    return EnhancementKDTask.build_model(EnhancementKDTask.get_parser().parse_args(options))


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixture, reference = (torch.randn(2, CHUNK, generator=generator) for _ in range(2))
    return {"speech_mix": mixture, "speech_ref1": reference}


def scheme_options(scheme: str) -> dict:
    """A distillation by a scheme, as narrow as it can be."""
    conf = {"fusion_channels": 8} if scheme in FUSING else {}
    return {"distiller": scheme, "distiller_conf": conf}
