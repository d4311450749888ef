"""DISPatch: learn the teacher's output only where the teacher is better."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs, Sizes
from espnet2_tfckd.distiller.ranks import mean_over_ranks
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.distiller.spectra import comparable_spectra


@register_distiller("dispatch")
class DISPatchDistiller(AbsDistiller):
    """Mean squared error of magnitudes, over patches where the teacher is nearer the reference.

    A patch is a group of neighbouring bins of one frame. Its knowledge gap is the student's squared
    error against the reference minus the teacher's. Patches with a positive gap are distilled.

    Args:
        sizes: Sizes of the features and of a training batch.
        patch_bins: Frequency bins of a patch; the last patch of a frame may be narrower.

    Raises:
        ValueError: If ``patch_bins`` is below 1.

    References:
        arXiv 2509.15922, its distillation of magnitudes with patches of one size. The published
        code takes a fixed share of the patches, those with the largest gaps, which may include some
        where the teacher is worse. Here the sign of the gap decides, as the paper says. As in the
        paper, the squared error depends on the level of the recording.
    """

    uses_features = False

    def __init__(
        self,
        sizes: Sizes,
        patch_bins: int = 20,
    ):
        super().__init__(sizes)
        if patch_bins < 1:
            raise ValueError(f"patch_bins must be at least 1, but is {patch_bins}")
        self.patch_bins = patch_bins

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs the share of patches that were distilled."""
        own, target, reference = (
            x.abs()
            for x in comparable_spectra(
                student.spectrum, teacher.detach().spectrum, student.reference
            )
        )
        with torch.no_grad():
            gap = self._patch_errors(own, reference) - self._patch_errors(target, reference)
            selected = (gap > 0).to(gap.dtype)
        errors = self._patch_errors(own, target)
        # no patch at all: 0 / 0
        count = mean_over_ranks(selected.sum()).clamp_min(torch.finfo(errors.dtype).tiny)
        loss = (errors * selected).sum() / count
        return loss, {"kd_dispatch": loss.detach(), "kd_selected": selected.mean()}

    def _patch_errors(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean squared difference within each patch, (B, T, F) to (B, T, patches)."""
        size = self.patch_bins
        return F.avg_pool1d((x - y).square(), size, ceil_mode=True)
