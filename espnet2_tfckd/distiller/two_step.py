"""Two-step distillation: first only the teacher, then only the reference."""

from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs, Sizes
from espnet2_tfckd.distiller.pairing import mean_of_pairs, pair_layers
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.distiller.similarity import gram_distance, grams


@register_distiller("two_step")
class TwoStepDistiller(AbsDistiller):
    """Trains the student on the teacher's self-similarities first, then on the reference alone.

    In the first step the enhancement loss has weight 0. The student learns the Gram matrices of
    each utterance's frames, whose rows are scaled to length 1. Layers of equal depth are paired,
    see :func:`pair_layers`, and their losses averaged. In the second step the distillation loss is
    0 and the enhancement loss has its full weight.

    Args:
        sizes: Sizes of the features and of a training batch.
        first_updates: Training batches of the first step.

    Raises:
        ValueError: If ``first_updates`` is below 1.

    References:
        arXiv 2309.08144: two steps in place of a weighted sum, and Gram matrices within an
        activation in place of SP's across the batch (arXiv 1907.09682). Here they are Gram matrices
        of frames, because student and teacher may differ in bins and channels, but never in frames.
        The paper trains twice; here one optimizer and schedule run through both steps.
    """

    def __init__(
        self,
        sizes: Sizes,
        first_updates: int = 10000,
    ):
        super().__init__(sizes)
        if first_updates < 1:
            raise ValueError(f"first_updates must be at least 1, but is {first_updates}")
        self.first_updates = first_updates

    @property
    def enhancement_weight(self) -> float:
        """0 in the first step, 1 in the second."""
        return float(self.updates > self.first_updates)

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; nothing is logged in the second step."""
        if self.enhancement_weight:
            return student.waveform.new_zeros(()), {}
        pairs = pair_layers(student.feature_sets, teacher.detach().feature_sets)
        return mean_of_pairs(
            {name: _self_similarity_distance(*pair) for name, pair in pairs.items()}
        )


def _self_similarity_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return gram_distance(*(grams(x, ["time"])["time"] for x in (student, teacher)))
