"""FitNets: regress the teacher's features from the student's."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs, Sizes
from espnet2_tfckd.distiller.pairing import mean_of_pairs, pair_layers, to_common_bins
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.functional import widened


@register_distiller("fitnets")
class FitNetsDistiller(AbsDistiller):
    """Mean squared error of teacher features regressed from the student's by a 1x1 convolution.

    Layers of equal depth are paired, see :func:`pair_layers`, and their losses averaged.

    Args:
        sizes: Sizes of the features and of a training batch.

    References:
        arXiv 1412.6550. There, one hint in the middle of the network initialises the student's
        lower half before its training. Here, all layers are hints throughout the training, as in
        later comparisons of schemes. There, the regressor is a convolution that also adapts the
        sizes of images. Here, sizes can differ in frequency only, and then the wider map is
        averaged down.
    """

    def __init__(
        self,
        sizes: Sizes,
    ):
        super().__init__(sizes)
        self.regressors = nn.ModuleDict(
            {
                name: nn.Conv2d(student_channels, teacher_channels, 1)
                for name, ((student_channels, _), (teacher_channels, _)) in pair_layers(
                    sizes.student, sizes.teacher
                ).items()
            }
        )

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs the loss of every student layer."""
        losses = {}
        pairs = pair_layers(student.feature_sets, teacher.detach().feature_sets)
        for name, pair in pairs.items():
            feature, hint = to_common_bins(*pair)
            losses[name] = F.mse_loss(self.regressors[name](widened(feature)), widened(hint))
        return mean_of_pairs(losses)
