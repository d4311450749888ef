"""Reading checkpoints strictly, and extracting the plain student from a distillation."""

from __future__ import annotations

import argparse
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import yaml

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.models.configuration import read_configuration

if TYPE_CHECKING:
    import torch
    from espnet2.enh.espnet_model import ESPnetEnhancementModel

# Options of a distillation that a plain enhancement model does not have
_DISTILLATION_OPTIONS = (
    "distiller",
    "distiller_conf",
    "distill_weight",
    "distill_every",
    "student_features",
    "teacher_config",
    "teacher_features",
    "teacher_model_file",
)


_REMEDY = "restore it, or fetch or train the model again"


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the weights in a checkpoint file. No code in it is run.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it is damaged or holds anything other than weights.
    """
    import torch

    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} is not there")
    try:
        if zipfile.is_zipfile(path):
            _refuse_compressed(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for a damaged file
        code = re.search(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)", str(error))
        if code:
            reason = f"it holds more than weights, which could run code: {code[1] or code[2]}"
        elif Path(path).stat().st_size == 0:
            reason = "it is empty"
        elif isinstance(error, pickle.UnpicklingError):
            # torch's own text advises to load such a file without care
            reason = "it is damaged, or of another kind"
        else:
            reason = shorten(str(error).partition("\n")[0], 200)
        raise ValueError(f"{path} cannot be read as a checkpoint ({reason}): {_REMEDY}") from error
    if not (
        isinstance(weights, dict)
        and weights
        and all(isinstance(x, torch.Tensor) for x in weights.values())
    ):
        raise ValueError(f"{path} holds no weights by their names: {_REMEDY}")
    return weights


def _refuse_compressed(path: str | Path) -> None:
    """Refuse compressed contents: torch writes none, but would unpack them to any size."""
    with zipfile.ZipFile(path) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ValueError("its contents are compressed")


def load_strictly(model: torch.nn.Module, path: str | Path) -> None:
    """Load a checkpoint that must fit the model in every key and shape.

    ESPnet itself loads the keys that fit, and keeps random weights for the others.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it is damaged, or keys or shapes differ; the message names the first ones.
    """
    weights = read_checkpoint(path)
    try:
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not fit the model of its configuration: {shorten(str(error), 400)}"
        ) from error


def check_buildable(options: dict, source: str) -> None:
    """Refuse a configuration whose model uses classes that are not registered.

    Args:
        options: Contents of a checked ``config.yaml``.
        source: What the file is called in messages.

    Raises:
        ValueError: If a class is not registered, or would load other code or files.
    """
    from espnet2.tasks import enh

    import espnet2_tfckd  # noqa: F401  (registers our separators)

    for kind in ("encoder", "separator", "decoder"):
        known = getattr(enh, f"{kind}_choices").classes
        if options[kind] not in known:
            raise ValueError(
                f"{source}: there is no {kind} {shorten(options[kind], 60)}; known are "
                f"{', '.join(sorted(known))}"
            )
    if options["separator"] == "asteroid":  # it loads classes and files by their names
        raise ValueError(f"{source}: models of Asteroid load other code, and are not opened")
    if options.get("use_adapter"):  # it wraps modules by their names
        raise ValueError(f"{source}: models with adapters are not opened: merge them first")


def load_enhancement_model(config: str | Path, checkpoint: str | Path) -> ESPnetEnhancementModel:
    """Build a plain ESPnet enhancement model from its ``config.yaml`` and load it strictly.

    Raises:
        FileNotFoundError: If one of the files is not there.
        ValueError: If the configuration is not that of an enhancement model, or the checkpoint
            does not fit it.
    """
    from espnet2.tasks.enh import EnhancementTask

    options = read_configuration(config)
    check_buildable(options, str(config))
    with naming(config):
        model = EnhancementTask.build_model(argparse.Namespace(**options))
    load_strictly(model, checkpoint)
    return model


@contextmanager
def naming(config: str | Path) -> Iterator[None]:
    """Turn any error of a network's constructor into one that names its configuration.

    Raises:
        ValueError: If the block raises any error.
    """
    try:
        yield
    except Exception as error:  # constructors raise many kinds
        reason = shorten(f"{type(error).__name__}: {error}", 300)
        raise ValueError(f"{config}: its model cannot be built ({reason}): {_REMEDY}") from error


def export_student(train_dir: str | Path, exp_dir: str | Path, checkpoint: str) -> Path:
    """Extract the plain student from a finished distillation.

    Args:
        train_dir: Directory that the distillation was trained in.
        exp_dir: Where the student is written: ``config.yaml``, ``<checkpoint>`` and ``images/``, as
            for an enhancement model trained without a teacher.
        checkpoint: Name of the checkpoint to take, such as ``valid.loss.best.pth``.

    Returns:
        Path of the student's checkpoint.

    Raises:
        FileNotFoundError: If the configuration or the checkpoint is not there.
        ValueError: If one of them is damaged.
    """
    import torch

    train_dir, exp_dir = Path(train_dir), Path(exp_dir)
    weights = read_checkpoint(train_dir / checkpoint)
    student = {key: value for key, value in weights.items() if not key.startswith("distiller.")}
    options = read_configuration(train_dir / "config.yaml")
    for option in _DISTILLATION_OPTIONS:
        options.pop(option, None)
    with atomic_write(exp_dir / "config.yaml") as config:
        config.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    with atomic_write(exp_dir / checkpoint) as file:
        torch.save(student, file)
    if (train_dir / "images").is_dir():
        shutil.copytree(train_dir / "images", exp_dir / "images", dirs_exist_ok=True)
    return exp_dir / checkpoint
