"""Loading a trained model for inference, without ESPnet's leniency towards wrong checkpoints."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import espnet2_tfckd  # noqa: F401  (makes our separators known to ESPnet)
from espnet2_tfckd.checkpoint import load_strictly
from espnet2_tfckd.data.freshness import made_of

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
        FileNotFoundError: One of them is not there; names it.
    """
    config, checkpoint = Path(exp_dir) / "config.yaml", Path(exp_dir) / inference_model
    if not config.is_file():
        raise FileNotFoundError(f"{config} is not there: train the model first")
    if not checkpoint.is_file():
        there = ", ".join(sorted(path.name for path in Path(exp_dir).glob("*.pth"))) or "none"
        raise FileNotFoundError(f"{checkpoint} is not there; checkpoints in {exp_dir}: {there}")
    return config, checkpoint


def model_made_of(exp_dir: str | Path, inference_model: str) -> dict:
    """A model's files as a part of what results are made of.

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
        FileNotFoundError: A file is not there.
        ValueError: The checkpoint cannot be read or does not fit the model; names it.
    """
    config, checkpoint = model_files(exp_dir, inference_model)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of ESPnet's modules about themselves
        from espnet2.bin.enh_inference import SeparateSpeech

    separate_speech = SeparateSpeech(config, device=device, ref_channel=ref_channel)
    load_strictly(separate_speech.enh_model, checkpoint)
    return separate_speech
