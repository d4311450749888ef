"""CLSKD: fused student layers see utterances as alike as the teacher does, frame by frame."""

from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs, FeatureShapes
from espnet2_tfckd.distiller.fusion import CascadeFusion, widest_layer
from espnet2_tfckd.distiller.pairing import mean_of_pairs, review_pairs
from espnet2_tfckd.distiller.similarity import gram_distance, grams


class CLSKDDistiller(AbsDistiller):
    """Distance of frame-level similarity matrices between fused student layers and the teacher's.

    Student layers are fused from the output back to the input. At each, and at every frame, the
    inner products of the utterances of the batch are compared with those of the teacher layer of
    equal depth, see :func:`pair_layers`: rows scaled to length 1, squared Frobenius norm over B^2,
    averaged over frames and layers. With one utterance in the batch the loss is 0.

    Args:
        student_shapes: (C, F) of every student layer, by set.
        teacher_shapes: The same of the teacher.
        frames: Frames of a training batch.
        batch_size: Utterances of a training batch, at most.
        fusion_channels: Width in which layers are fused; by default the teacher's widest layer.

    References:
        Cheng et al., "Cross-layer similarity knowledge distillation for speech enhancement",
        Interspeech 2022: fusion across layers after ReviewKD (arXiv 2104.09044) and a similarity
        loss after SP (arXiv 1907.09682) for every frame. No code was published; what is compared
        within a frame follows the code of the same authors' RFPKD. The layers are those of the
        networks at hand in place of DCCRN's.
    """

    def __init__(
        self,
        student_shapes: FeatureShapes,
        teacher_shapes: FeatureShapes,
        frames: int,
        batch_size: int,
        fusion_channels: int | None = None,
    ):
        super().__init__(student_shapes, teacher_shapes, frames, batch_size)
        width = fusion_channels or widest_layer(teacher_shapes)
        self.fusion = CascadeFusion(review_pairs(student_shapes, teacher_shapes), width)

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs the loss of every student layer."""
        pairs = self.fusion(review_pairs(student.feature_sets, teacher.detach().feature_sets))
        return mean_of_pairs(
            {name: frame_similarity_distance(*pair) for name, pair in pairs.items()}
        )


def frame_similarity_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Distance of the similarities of utterances at each frame, of (B, C, T, F) each."""
    return gram_distance(*(grams(x, ["frequency"])["frequency"] for x in (student, teacher)))
