"""ReviewKD: deep student layers, fused into shallow ones, review what the teacher does there."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs, Sizes
from espnet2_tfckd.distiller.fusion import CascadeFusion, widest_layer
from espnet2_tfckd.distiller.pairing import mean_of_pairs, review_pairs, to_common_bins
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.functional import widened

_LEVELS = (4, 2, 1)  # frames and bins of the averaged maps


def hierarchical_context_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared error of maps and of their averages on ever coarser grids.

    The weight halves from one grid to the next; weights sum to 1. Grids that are not coarser than
    the map are left out.

    Args:
        student: (B, C, T, F).
        teacher: (B, C, T, F); bins may differ.
    """
    own, target = to_common_bins(student, teacher)
    error = own - widened(target)  # averaging is linear: one map is averaged in place of two
    weight, loss, total = 1.0, error.square().mean(), 1.0
    for level in _LEVELS:
        if level < min(error.shape[2:]):
            weight /= 2
            total += weight
            loss = loss + weight * F.adaptive_avg_pool2d(error, level).square().mean()
    return loss / total


@register_distiller("reviewkd")
class ReviewKDDistiller(AbsDistiller):
    """Hierarchical context loss between fused student layers and the teacher's layers.

    Student layers are fused from the output back to the input; at each, the fused map is compared
    with the teacher layer of equal depth, see :func:`pair_layers`, and the losses are averaged.

    Args:
        sizes: Sizes of the features and of a training batch.
        fusion_channels: Width in which layers are fused; by default the teacher's widest layer.

    References:
        arXiv 2104.09044. Layers of encoder, bottleneck and decoder take the place of an image
        classifier's stages; the published code sums where pairs are averaged here. For the fusion
        see :class:`CascadeFusion`.
    """

    distance = staticmethod(hierarchical_context_loss)

    def __init__(
        self,
        sizes: Sizes,
        fusion_channels: int | None = None,
    ):
        super().__init__(sizes)
        width = fusion_channels or widest_layer(sizes.teacher)
        self.fusion = CascadeFusion(review_pairs(sizes.student, sizes.teacher), width)

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs the loss of every student layer."""
        pairs = self.fusion(review_pairs(student.feature_sets, teacher.detach().feature_sets))
        return mean_of_pairs({name: self.distance(*pair) for name, pair in pairs.items()})
