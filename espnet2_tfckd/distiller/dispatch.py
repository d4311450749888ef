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
        top_fraction: Instead of those with a positive gap, distil this share of the patches of each
            utterance, those with the largest gaps.

    Raises:
        ValueError: If ``patch_bins`` is below 1, or ``top_fraction`` not above 0 and at most 1.

    References:
        arXiv 2509.15922, its distillation of magnitudes with patches of one size. The sign of the
        gap decides as the paper says. ``top_fraction`` is what its published code does, which
        leaves the share to the caller; it may include patches where the teacher is worse. As in the
        paper, the squared error depends on the level of the recording.
    """

    uses_features = False
    uses_reference = True

    def __init__(
        self,
        sizes: Sizes,
        patch_bins: int = 20,
        top_fraction: float | None = None,
    ):
        super().__init__(sizes)
        if patch_bins < 1:
            raise ValueError(f"patch_bins must be at least 1, but is {patch_bins}")
        if top_fraction is not None and not 0 < top_fraction <= 1:
            raise ValueError(f"top_fraction must be above 0 and at most 1, but is {top_fraction}")
        self.patch_bins, self.top_fraction = patch_bins, top_fraction

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
            selected = self._select(gap)
        errors = self._patch_errors(own, target)
        # no patch at all: 0 / 0
        count = mean_over_ranks(selected.sum()).clamp_min(torch.finfo(errors.dtype).tiny)
        loss = (errors * selected).sum() / count
        return loss, {"kd_dispatch": loss.detach(), "kd_selected": selected.mean()}

    def _select(self, gap: torch.Tensor) -> torch.Tensor:
        """1 for the patches that are distilled, 0 for the others, (B, T, patches)."""
        if self.top_fraction is None:
            return (gap > 0).to(gap.dtype)
        gaps = gap.flatten(1)
        count = max(1, int(gaps.shape[1] * self.top_fraction))
        largest = gaps.topk(count, dim=1).indices
        return torch.zeros_like(gaps).scatter_(1, largest, 1.0).view_as(gap)

    def _patch_errors(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean squared difference within each patch, (B, T, F) to (B, T, patches)."""
        size = self.patch_bins
        return F.avg_pool1d((x - y).square(), size, ceil_mode=True)
