"""Curves and pictures of trainings: validation losses and calibration weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from espnet2_tfckd.training.log import logged_epochs


def validation_losses(models: Mapping[str, Path]) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Validation loss of each epoch from ESPnet's logs.

    Args:
        models: Experiment directories by the name of their system.

    Returns:
        Losses by epoch for each model that has a log, and a sentence for each model without one.
    """
    curves, remarks = {}, []
    for name, exp_dir in models.items():
        log = exp_dir / "train.log"
        if not log.is_file():
            remarks.append(f"{name} has no curve: there is no `{log}`, so it was not trained here.")
            continue
        epochs = logged_epochs(log.read_text(encoding="utf-8", errors="replace"))
        losses = {epoch: row["valid_loss"] for epoch, row in sorted(epochs.items())}
        losses = {epoch: loss for epoch, loss in losses.items() if math.isfinite(loss)}
        if losses:
            curves[name] = losses
        else:
            remarks.append(f"{name} has no curve: `{log}` has no finite validation loss.")
    return curves, remarks


def heat_maps(models: Mapping[str, Path]) -> list[dict]:
    """The last pictures of calibration weights that trainings drew.

    Args:
        models: As for :func:`validation_losses`.

    Returns:
        ``system``, ``epoch`` and ``path`` for each model that has one.
    """
    found = []
    for name, exp_dir in models.items():
        pictures = {
            int(path.stem.removesuffix("ep")): path
            for path in (exp_dir / "images" / "calibration_weights").glob("*ep.png")
            if path.stem.removesuffix("ep").isdigit()
        }
        if pictures:
            epoch, path = max(pictures.items())
            found.append({"system": name, "epoch": epoch, "path": path})
    return found
