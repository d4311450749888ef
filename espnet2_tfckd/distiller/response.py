"""Response distillation: the student's output against the teacher's output."""

from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.functional import widened

_NOISE_FLOOR = 1e-3  # noise-to-signal ratio that counts as equal: 30 dB
_SILENT_ENERGY = 1e-8


@register_distiller("response")
class ResponseDistiller(AbsDistiller):
    """Noise-to-signal ratio of the student's waveform towards the teacher's, in dB over -30 dB.

    loss = 10 log10(1 + |student - teacher|^2 / (0.001 |teacher|^2)), averaged over utterances

    Unlike absolute and squared differences, this distance does not depend on the level of the
    recording. Its unit is that of the SNR losses that enhancement is trained with, so a weight of 1
    means the same for both. The floor keeps it from going to minus infinity where the student
    equals the teacher; there it is 0.

    References:
        Distillation from outputs: arXiv 1503.02531, there for class probabilities. The soft floor
        at 30 dB: arXiv 2006.12701, its loss for mixtures of mixtures.
    """

    uses_features = False

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`."""
        target = widened(teacher.detach().waveform)
        error = (widened(student.waveform) - target).square().sum(-1)
        floor = _NOISE_FLOOR * target.square().sum(-1) + _SILENT_ENERGY
        loss = 10 * torch.log10(1 + error / floor).mean()
        return loss, {"kd_response": loss.detach()}
