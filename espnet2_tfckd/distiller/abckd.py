"""ABC-KD: attention compresses all teacher layers into one target for each student layer."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs, Sizes
from espnet2_tfckd.distiller.attention import LayerAttention
from espnet2_tfckd.distiller.pairing import mean_of_pairs, name_layers, to_common_bins
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.functional import widened


@register_distiller("abckd")
class ABCKDDistiller(AbsDistiller):
    """Mean squared error of every student layer towards its own mixture of all teacher layers.

    The weights of :class:`LayerAttention` are the shares of the mixture. A 1x1 convolution projects
    the student's layer to the teacher's width. Layers of all sets take part.

    Args:
        sizes: Sizes of the features and of a training batch.

    References:
        arXiv 2305.16665: as many targets as student layers, each attended from all teacher layers.
        The attention is that of SemCKD (arXiv 2012.03236), which allows layers of different sizes.
        Before they are mixed, layers are averaged in frequency to the narrowest, and padded with
        silent channels to the widest. Teacher layers are not projected: a learnt projection of the
        target could make the target trivial.
    """

    def __init__(
        self,
        sizes: Sizes,
    ):
        super().__init__(sizes)
        student, teacher = name_layers(sizes.student), name_layers(sizes.teacher)
        self.attention = LayerAttention(len(student), len(teacher), sizes.batch_size)
        self.channels = max(channels for channels, _ in teacher.values())
        self.projections = nn.ModuleList(
            nn.Linear(channels, self.channels, bias=False) for channels, _ in student.values()
        )

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs the loss of every student layer."""
        layers = name_layers(student.feature_sets)
        targets = list(name_layers(teacher.detach().feature_sets).values())
        weights = self.attention(list(layers.values()), targets)  # (B, Ns, Nt)
        flat = [widened(x).flatten(2) for x in to_common_bins(*layers.values(), *targets)]
        features, targets = flat[: len(layers)], flat[len(layers) :]
        stacked = torch.stack([self._widened(x) for x in targets], 1).flatten(2)
        compressed = (weights @ stacked).unflatten(2, (self.channels, -1))  # (B, Ns, C, T * F)
        losses = {}
        for name, own, projection, target in zip(
            layers, features, self.projections, compressed.unbind(1), strict=True
        ):
            weight = projection.weight.expand(len(own), -1, -1)
            losses[name] = torch.baddbmm(target, weight, own, beta=-1).square().mean()
        return mean_of_pairs(losses)

    def _widened(self, feature: torch.Tensor) -> torch.Tensor:
        return F.pad(feature, (0, 0, 0, self.channels - feature.shape[1]))
