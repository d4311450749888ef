"""Reading checkpoints without leniency, and turning a distillation's into a plain student's."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import yaml

from espnet2_tfckd.cli import atomic_write

if TYPE_CHECKING:
    import torch
    from espnet2.enh.espnet_model import ESPnetEnhancementModel

# Options of a distillation that mean nothing to a plain enhancement model
_DISTILLATION_OPTIONS = (
    "distiller",
    "distiller_conf",
    "distill_weight",
    "distill_updates",
    "student_features",
    "teacher_config",
    "teacher_features",
    "teacher_model_file",
)


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the weights in a checkpoint file.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It is damaged or holds something else.
    """
    import torch

    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} is not there")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({shorten(str(error), 300)}): "
            "delete it and train again, or restore it"
        ) from error


def load_strictly(model: torch.nn.Module, path: str | Path) -> None:
    """Load a checkpoint that must fit the model in every key and shape.

    ESPnet itself loads what fits and keeps random weights for the rest.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It is damaged, or keys or shapes differ; names the first of them.
    """
    weights = read_checkpoint(path)
    try:
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not fit the model of its configuration: {shorten(str(error), 400)}"
        ) from error


def load_enhancement_model(config: str | Path, checkpoint: str | Path) -> ESPnetEnhancementModel:
    """Build a plain ESPnet enhancement model from its ``config.yaml`` and load it strictly.

    Raises:
        FileNotFoundError: One of the files is not there.
        ValueError: The configuration is none of an enhancement model, or the checkpoint does not
            fit it.
    """
    from espnet2.tasks.enh import EnhancementTask

    if not Path(config).is_file():
        raise FileNotFoundError(f"configuration {config} is not there: train that model first")
    options = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    if not isinstance(options, dict) or "separator" not in options:
        raise ValueError(f"{config} is no configuration of an ESPnet enhancement model")
    model = EnhancementTask.build_model(argparse.Namespace(**options))
    load_strictly(model, checkpoint)
    return model


def export_student(train_dir: str | Path, exp_dir: str | Path, checkpoint: str) -> Path:
    """Take the plain student out of a finished distillation.

    Args:
        train_dir: Directory that the distillation was trained in.
        exp_dir: Where the student goes: ``config.yaml``, ``<checkpoint>`` and ``images/``, as of an
            enhancement model trained without a teacher.
        checkpoint: Name of the checkpoint to take, such as ``valid.loss.best.pth``.

    Returns:
        Path of the student's checkpoint.

    Raises:
        FileNotFoundError: The configuration or the checkpoint is not there.
        ValueError: The checkpoint is damaged.
    """
    import torch

    train_dir, exp_dir = Path(train_dir), Path(exp_dir)
    weights = read_checkpoint(train_dir / checkpoint)
    student = {key: value for key, value in weights.items() if not key.startswith("distiller.")}
    options = yaml.safe_load((train_dir / "config.yaml").read_text(encoding="utf-8"))
    for option in _DISTILLATION_OPTIONS:
        options.pop(option, None)
    with atomic_write(exp_dir / "config.yaml") as config:
        config.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    with atomic_write(exp_dir / checkpoint) as file:
        torch.save(student, file)
    if (train_dir / "images").is_dir():
        shutil.copytree(train_dir / "images", exp_dir / "images", dirs_exist_ok=True)
    return exp_dir / checkpoint
