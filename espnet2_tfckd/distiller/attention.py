"""Attention of student layers over teacher layers."""

from __future__ import annotations

import torch
from torch import nn

from espnet2_tfckd.distiller.calibration import SimilarityEmbedding
from espnet2_tfckd.distiller.similarity import batch_gram

_EXPANSION = 4  # width of the embeddings over the batch size


class LayerAttention(nn.Module):
    """How much each student layer is to learn from each teacher layer, for every utterance.

    Queries and keys are embeddings of the rows of the layers' batch similarity matrices. So two
    layers are alike if they find the same utterances alike, whatever their sizes.

    Args:
        student_layers: Number of student layers, Ns.
        teacher_layers: Number of teacher layers, Nt.
        batch_size: Utterances of a training batch, at most.

    Shape:
        Lists of (B, C, T, F) of student and teacher to (B, Ns, Nt), whose sum over Nt is 1.

    References:
        SemCKD, arXiv 2012.03236. Its embeddings are narrower than the batch, which suits batches of
        64 images but not of 8 utterances. The width here is that of the frequency calibration of
        arXiv 2506.13127.
    """

    def __init__(self, student_layers: int, teacher_layers: int, batch_size: int):
        super().__init__()
        width = _EXPANSION * batch_size
        self.query, self.key = (
            nn.ModuleList(SimilarityEmbedding(batch_size, width, width) for _ in range(layers))
            for layers in (student_layers, teacher_layers)
        )

    def forward(self, student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
        query, key = (
            torch.stack([embed(batch_gram(x)) for embed, x in zip(embeds, layers, strict=True)], 1)
            for embeds, layers in ((self.query, student), (self.key, teacher))
        )
        return (query @ key.transpose(1, 2)).softmax(-1)
