"""CLSKD: fused student layers see utterances as alike as the teacher does, frame by frame."""

from __future__ import annotations

import torch

from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.distiller.reviewkd import ReviewKDDistiller
from espnet2_tfckd.distiller.similarity import gram_distance, grams


def frame_similarity_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Distance of the similarities of utterances at each frame, of (B, C, T, F) each."""
    return gram_distance(*(grams(x, ["frequency"])["frequency"] for x in (student, teacher)))


@register_distiller("clskd")
class CLSKDDistiller(ReviewKDDistiller):
    """Distance of frame-level similarity matrices between fused student layers and the teacher's.

    Student layers are fused from the output back to the input. At each, and at every frame, the
    inner products of the utterances of the batch are compared with those of the teacher layer of
    equal depth, see :func:`pair_layers`: rows scaled to length 1, squared Frobenius norm over B^2,
    averaged over frames and layers. With one utterance in the batch the loss is 0.

    Args:
        As those of :class:`ReviewKDDistiller`.

    References:
        Cheng et al., "Cross-layer similarity knowledge distillation for speech enhancement",
        Interspeech 2022: fusion across layers after ReviewKD (arXiv 2104.09044) and a similarity
        loss after SP (arXiv 1907.09682) for every frame. No code was published. The comparison
        within a frame follows the code of the same authors' RFPKD. The layers of the present
        networks take the place of DCCRN's.
    """

    distance = staticmethod(frame_similarity_distance)
