"""Loading a trained model for inference; unlike ESPnet, this refuses wrong checkpoints."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from espnet2_tfckd.data.freshness import made_of
from espnet2_tfckd.models.checkpoint import check_buildable, load_strictly, naming
from espnet2_tfckd.models.configuration import read_configuration

if TYPE_CHECKING:
    from espnet2.bin.enh_inference import SeparateSpeech


def model_files(exp_dir: str | Path, inference_model: str) -> tuple[Path, Path]:
    """Find the configuration and the checkpoint of an experiment.

    Args:
        exp_dir: Experiment directory.
        inference_model: Name of the checkpoint in it; may be a symbolic link.

    Returns:
        Path of ``config.yaml`` and path of the checkpoint.

    Raises:
        FileNotFoundError: If one of them is not there; the message names it.
    """
    config, checkpoint = Path(exp_dir) / "config.yaml", Path(exp_dir) / inference_model
    if not config.is_file():
        raise FileNotFoundError(f"{config} is not there: train the model first")
    if not checkpoint.is_file():
        there = ", ".join(sorted(path.name for path in Path(exp_dir).glob("*.pth"))) or "none"
        raise FileNotFoundError(f"{checkpoint} is not there; checkpoints in {exp_dir}: {there}")
    return config, checkpoint


def model_made_of(exp_dir: str | Path, inference_model: str) -> dict:
    """A model's files, as part of what a result is made of.

    Raises:
        FileNotFoundError: If one of them is not there.
    """
    config, checkpoint = model_files(exp_dir, inference_model)
    return made_of({"the model's config.yaml": config, "the model's checkpoint": checkpoint})


def load_separate_speech(
    exp_dir: str | Path,
    inference_model: str,
    device: str = "cpu",
    ref_channel: int | None = None,
) -> SeparateSpeech:
    """Load a model as ESPnet's ``SeparateSpeech``, refusing a checkpoint that does not fit.

    Args:
        exp_dir: Experiment directory with ``config.yaml``.
        inference_model: Name of the checkpoint in it.
        device: As for torch.
        ref_channel: Reference channel of a multichannel model; its own by default.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If the configuration is not that of an enhancement model, or the checkpoint
            cannot be read or does not fit the model; the message names the file.
    """
    config, checkpoint = model_files(exp_dir, inference_model)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of ESPnet's modules about themselves
        from espnet2.bin.enh_inference import SeparateSpeech

    check_buildable(read_configuration(config), str(config))
    _check_device(device)
    with naming(config):
        separate_speech = SeparateSpeech(config, device=device, ref_channel=ref_channel)
    load_strictly(separate_speech.enh_model, checkpoint)
    return separate_speech


def _check_device(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device)
    except Exception as error:  # torch raises many kinds, by device
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {device} cannot be used ({reason}): choose --device cpu"
        ) from error
