"""Similarity-preserving distillation: utterances alike to the teacher are alike to the student."""

from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs
from espnet2_tfckd.distiller.pairing import mean_of_pairs, pair_layers
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.distiller.similarity import batch_gram, gram_distance


@register_distiller("sp")
class SimilarityPreservingDistiller(AbsDistiller):
    """Distance of the similarity matrices that student and teacher see in a batch.

    Entry (i, j) of a matrix is the inner product of the features of utterances i and j; rows are
    scaled to length 1. Layers of equal depth are paired, see :func:`pair_layers`, and their losses
    averaged. With one utterance in the batch there is nothing to compare and the loss is 0.

    References:
        arXiv 1907.09682: squared Frobenius norm over B^2. It needs no adaptation, because the sizes
        of features do not matter.
    """

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs the loss of every student layer."""
        pairs = pair_layers(student.feature_sets, teacher.detach().feature_sets)
        return mean_of_pairs(
            {
                name: gram_distance(batch_gram(own), batch_gram(target))
                for name, (own, target) in pairs.items()
            }
        )
