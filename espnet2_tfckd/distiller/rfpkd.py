"""RFPKD: layers fused within each set; similarities of utterances as probabilities."""

from __future__ import annotations

import torch
from torch import nn

from espnet2_tfckd.distiller.abs_distiller import FEATURE_SETS, AbsDistiller, DistillInputs, Sizes
from espnet2_tfckd.distiller.fusion import CascadeFusion, widest_layer
from espnet2_tfckd.distiller.pairing import equal_depth, mean_of_pairs
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.distiller.similarity import layer_similarities, symmetric_divergence
from espnet2_tfckd.functional import widened


@register_distiller("rfpkd")
class RFPKDDistiller(AbsDistiller):
    """Jeffreys divergence of per-frame similarities between fused student layers and the teacher's.

    In each set, the student's layers are fused from the bottleneck outwards; in the bottleneck,
    from the last block back. Every teacher layer has a fused counterpart: if the student has fewer
    blocks, one block enters several times. The losses of the layers are averaged.

    Args:
        sizes: Sizes of the features and of a training batch.
        fusion_channels: Width in which layers are fused; by default the teacher's widest layer.

    References:
        Cheng et al., "Residual fusion probabilistic knowledge distillation for speech enhancement",
        2024, and its published code (UCLFWPKD-for-SE), which sums where layers are averaged here.
        The floor under similarities is ours, see :func:`layer_similarities`.
    """

    def __init__(
        self,
        sizes: Sizes,
        fusion_channels: int | None = None,
    ):
        super().__init__(sizes)
        width = fusion_channels or widest_layer(sizes.teacher)
        self.fusions = nn.ModuleDict(
            {
                name: CascadeFusion(
                    outward_pairs(name, sizes.student[name], sizes.teacher[name]), width
                )
                for name in FEATURE_SETS
            }
        )

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs the loss of every teacher layer."""
        own_sets, target_sets = student.feature_sets, teacher.detach().feature_sets
        losses = {}
        for name, fusion in self.fusions.items():
            pairs = fusion(outward_pairs(name, own_sets[name], target_sets[name]))
            losses |= {layer: probabilistic_distance(*pair) for layer, pair in pairs.items()}
        return mean_of_pairs(losses)


def outward_pairs(name: str, student: list, teacher: list) -> dict[str, tuple]:
    """Every teacher layer of a set with its student layer, from the bottleneck's end of the set.

    Args:
        name: The set.
        student: Its student layers: features or shapes.
        teacher: Its teacher layers.

    Returns:
        (student, teacher) by name of the teacher layer.

    Examples:
        >>> outward_pairs("encoder", ["e0", "e1"], ["E0", "E1"])
        {'encoder1': ('e1', 'E1'), 'encoder0': ('e0', 'E0')}
        >>> outward_pairs("bottleneck", ["b"], ["B0", "B1"])
        {'bottleneck1': ('b', 'B1'), 'bottleneck0': ('b', 'B0')}
        >>> outward_pairs("decoder", ["d0", "d1"], ["D0", "D1"])
        {'decoder0': ('d0', 'D0'), 'decoder1': ('d1', 'D1')}
    """
    pairs = {
        f"{name}{n}": (student[counterpart], teacher[n])
        for n, counterpart in enumerate(equal_depth(len(teacher), len(student)))
    }
    return pairs if name == "decoder" else dict(reversed(pairs.items()))


def probabilistic_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Divergence of the similarities of utterances, summed over frames with weights.

    A frame's weight is the sigmoid of the teacher's mean activation in it.

    Args:
        student: (B, C, T, F).
        teacher: (B, C, T, F); C and F may differ.
    """
    weight = widened(teacher).mean((1, 3)).sigmoid()  # (B, T)
    own, target = (
        layer_similarities(x, ["frequency"])["frequency"].probability for x in (student, teacher)
    )
    divergence = symmetric_divergence(own.log(), target.log(), own, target)  # (B, T)
    return (weight * divergence).mean(0).sum()
