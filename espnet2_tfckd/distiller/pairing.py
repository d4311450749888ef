"""Which student layer learns from which teacher layer, and how their sizes are brought together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch.nn import functional as F

from espnet2_tfckd.distiller.abs_distiller import FEATURE_SETS

Layer = TypeVar("Layer")


def equal_depth(layers: int, others: int) -> list[int]:
    """For each of ``layers`` layers, its counterpart among ``others``; the last ones are paired.

    Args:
        layers: Number of layers that look for a counterpart.
        others: Number of layers to choose from.

    Returns:
        Indices at the same relative depth.

    Examples:
        >>> equal_depth(3, 3), equal_depth(1, 4), equal_depth(2, 4), equal_depth(4, 1)
        ([0, 1, 2], [3], [1, 3], [0, 0, 0, 0])
    """
    return [-(-(n + 1) * others // layers) - 1 for n in range(layers)]


def pair_layers(
    student: Mapping[str, list[Layer]], teacher: Mapping[str, list[Layer]]
) -> dict[str, tuple[Layer, Layer]]:
    """Every student layer with the teacher layer of equal depth in the same set.

    Args:
        student: Layers of each set; a layer may be a feature or a shape.
        teacher: The same of the teacher.

    Returns:
        (student, teacher) by name of the student layer, in the order of the signal's path.

    Examples:
        >>> pair_layers(
        ...     {"encoder": ["e"], "bottleneck": ["b"], "decoder": ["d"]},
        ...     {"encoder": ["E"], "bottleneck": ["A", "B"], "decoder": ["D"]},
        ... )
        {'encoder0': ('e', 'E'), 'bottleneck0': ('b', 'B'), 'decoder0': ('d', 'D')}
    """
    return {
        f"{name}{n}": (layer, teacher[name][counterpart])
        for name in FEATURE_SETS
        for n, (layer, counterpart) in enumerate(
            zip(student[name], equal_depth(len(student[name]), len(teacher[name])), strict=True)
        )
    }


def review_pairs(
    student: Mapping[str, list[Layer]], teacher: Mapping[str, list[Layer]]
) -> dict[str, tuple[Layer, Layer]]:
    """The pairs of :func:`pair_layers` from the output back to the input."""
    return dict(reversed(pair_layers(student, teacher).items()))


def name_layers(sets: Mapping[str, list[Layer]]) -> dict[str, Layer]:
    """All layers by name, in the order of the signal's path.

    Examples:
        >>> name_layers({"encoder": ["e", "f"], "bottleneck": ["b"], "decoder": ["d"]})
        {'encoder0': 'e', 'encoder1': 'f', 'bottleneck0': 'b', 'decoder0': 'd'}
    """
    return {f"{name}{n}": layer for name in FEATURE_SETS for n, layer in enumerate(sets[name])}


def pool_bins(feature: torch.Tensor, bins: int) -> torch.Tensor:
    """Average a feature down to fewer frequency bins, (B, C, T, F) to (B, C, T, bins)."""
    if feature.shape[3] == bins:
        return feature
    return F.adaptive_avg_pool2d(feature, (feature.shape[2], bins))


def to_common_bins(*features: torch.Tensor) -> list[torch.Tensor]:
    """Features with as many frequency bins as the narrowest one; wider ones are averaged down."""
    bins = min(feature.shape[3] for feature in features)
    return [pool_bins(feature, bins) for feature in features]


def mean_of_pairs(
    losses: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A distiller's result from the losses of its pairs: their mean, and ``kd_<pair>`` each."""
    stats = {f"kd_{name}": loss.detach() for name, loss in losses.items()}
    return torch.stack(list(losses.values())).mean(), stats
