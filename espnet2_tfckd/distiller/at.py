"""Attention transfer: the student should be active where the teacher is."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs
from espnet2_tfckd.distiller.pairing import mean_of_pairs, pair_layers, to_common_bins
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.functional import widened


@register_distiller("at")
class AttentionTransferDistiller(AbsDistiller):
    """Squared distance of activation maps: power over channels, each map scaled to length 1.

    An utterance's map is a vector over all frames and bins. Layers of equal depth are paired, see
    :func:`pair_layers`, and their losses averaged; they lie between 0 and 2.

    References:
        arXiv 1612.03928, activation-based, with the sum of squares as map. The paper takes the
        distance, and its published code the mean square. Here the square is summed over the map. So
        the gradient stays finite where maps agree, and the loss does not depend on the size of the
        map.
    """

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs the loss of every student layer."""
        pairs = pair_layers(student.feature_sets, teacher.detach().feature_sets)
        losses = {}
        for name, pair in pairs.items():
            maps = to_common_bins(*(activation_map(feature) for feature in pair))
            own, target = (F.normalize(x.flatten(1)) for x in maps)
            losses[name] = (own - target).square().sum(1).mean()
        return mean_of_pairs(losses)


def activation_map(feature: torch.Tensor) -> torch.Tensor:
    """Power over channels, (B, C, T, F) to (B, 1, T, F)."""
    return widened(feature).square().sum(1, keepdim=True)
