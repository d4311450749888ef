"""SemCKD: every student layer learns from all teacher layers, by attention."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs, Sizes
from espnet2_tfckd.distiller.attention import LayerAttention
from espnet2_tfckd.distiller.pairing import mean_of_pairs, name_layers, pool_bins
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.functional import widened


@register_distiller("semckd")
class SemCKDDistiller(AbsDistiller):
    """Mean squared error of every student layer, projected, towards every teacher layer, weighted.

    The weights are those of :class:`LayerAttention`. Layers of all sets take part.

    Args:
        sizes: Sizes of the features and of a training batch.

    References:
        arXiv 2012.03236. As there, a pair is compared at the smaller of its two sizes. There, three
        convolutions project it. Here, features are 100 times as large as those of small images, and
        7 student layers and 10 teacher layers make 70 pairs. So here it is one 1x1 convolution,
        whose errors follow from covariances without computing a projected map.
    """

    def __init__(
        self,
        sizes: Sizes,
    ):
        super().__init__(sizes)
        student, teacher = name_layers(sizes.student), name_layers(sizes.teacher)
        self.attention = LayerAttention(len(student), len(teacher), sizes.batch_size)
        self.projections = nn.ModuleList(
            nn.ModuleList(nn.Linear(own, target, bias=False) for target, _ in teacher.values())
            for own, _ in student.values()
        )

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs the loss of every student layer."""
        layers = name_layers(student.feature_sets)
        targets = list(name_layers(teacher.detach().feature_sets).values())
        weights = self.attention(list(layers.values()), targets)  # (B, Ns, Nt)
        own_maps = _by_bins(layers.values(), targets, covariance)
        target_maps = _by_bins(targets, layers.values(), power)
        losses = {}
        for i, (name, layer) in enumerate(layers.items()):
            errors = []
            for j, target in enumerate(targets):
                bins = min(layer.shape[3], target.shape[3])
                projection = self.projections[i][j].weight
                errors.append(
                    projection_error(*own_maps[i][bins], *target_maps[j][bins], projection)
                )
            losses[name] = (weights[:, i] * torch.stack(errors, 1)).sum(1).mean()
        return mean_of_pairs(losses)


def _by_bins(
    features: Collection[torch.Tensor],
    others: Collection[torch.Tensor],
    moment: Callable[[torch.Tensor], torch.Tensor],
) -> list[dict[int, tuple[torch.Tensor, torch.Tensor]]]:
    """For each feature, its map and moment at every number of bins at which it is compared."""
    pooled = [
        {bins: widened(pool_bins(x, bins)).flatten(2) for bins in _meeting_bins(x, others)}
        for x in features
    ]
    return [{bins: (x, moment(x)) for bins, x in maps.items()} for maps in pooled]


def _meeting_bins(feature: torch.Tensor, others: Collection[torch.Tensor]) -> set[int]:
    return {min(feature.shape[3], other.shape[3]) for other in others}


def covariance(x: torch.Tensor) -> torch.Tensor:
    """E[x x'], (B, C, N) to (B, C, C)."""
    return x @ x.transpose(1, 2) / x.shape[2]


def power(x: torch.Tensor) -> torch.Tensor:
    """Mean square, (B, C, N) to (B,)."""
    return x.square().mean((1, 2))


def projection_error(
    own: torch.Tensor,
    own_covariance: torch.Tensor,
    target: torch.Tensor,
    target_power: torch.Tensor,
    weight: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error of the target when it is predicted as weight @ own.

    E|w x - t|^2 = w E[x x'] w' - 2 w E[x t'] + E|t|^2 needs no map of predictions.

    Args:
        own: x, (B, C, N).
        own_covariance: See :func:`covariance`.
        target: t, (B, D, N).
        target_power: See :func:`power`.
        weight: w, (D, C).

    Returns:
        (B,).
    """
    cross = target @ own.transpose(1, 2) / own.shape[2]  # (B, D, C)
    explained = ((weight @ own_covariance - 2 * cross) * weight).sum((1, 2))
    return explained / len(weight) + target_power
