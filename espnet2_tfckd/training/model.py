"""The training-time model that joins student, teacher and distiller."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace

import torch
from espnet2.enh.espnet_model import ESPnetEnhancementModel
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import nn

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs
from espnet2_tfckd.training.feature_tap import FeatureTap

#: Name of the data that hold the teacher's estimates, where the teacher does not run.
TEACHER_ESTIMATE = "teacher_estimate"
# ESPnet's forward() hands nothing else on to forward_enhance(); set for the time of one call
_estimate: ContextVar[torch.Tensor | None] = ContextVar(TEACHER_ESTIMATE, default=None)


class ESPnetEnhancementKDModel(ESPnetEnhancementModel):
    """ESPnet's enhancement model whose training loss also compares it with a teacher.

    In training, ``forward_enhance`` runs the teacher on the same mixture and passes both networks'
    features on in ``others``; ``forward_loss`` adds the distiller's loss to ESPnet's. In validation
    the teacher does not run. The loss is then the enhancement loss alone, which can be compared
    with that of a model trained without a teacher.

    Without a teacher, every training batch brings the teacher's estimates along, as the data
    ``teacher_estimate``; schemes that compare outputs need nothing else.

    ``state_dict()`` and ``parameters()`` hold student and distiller, never the teacher, which stays
    frozen and in eval mode.

    Args:
        teacher: A trained enhancement model; None if its estimates are part of the data.
        distiller: The distillation loss.
        distill_weight: Weight of the distillation loss beside the enhancement loss.
        distill_every: One training batch in so many is distilled, with so many times the weight;
            at the others the teacher does not run. (As regularisers are applied lazily in arXiv
            1912.04958.)
        student_tap: Where the student's features are; needed unless its separator hands them out
            itself, as DPDCRN does.
        teacher_tap: The same of the teacher.
        kwargs: Arguments of :class:`ESPnetEnhancementModel`, for the student.

    Raises:
        ValueError: If the weight is negative, ``distill_every`` is below 1, or the two
            models normalise the mixture differently.
    """

    def __init__(
        self,
        *,
        teacher: ESPnetEnhancementModel | None,
        distiller: AbsDistiller,
        distill_weight: float = 1.0,
        distill_every: int = 1,
        student_tap: FeatureTap | None = None,
        teacher_tap: FeatureTap | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if distill_weight < 0:
            raise ValueError(f"distill_weight must not be negative, but is {distill_weight}")
        if distill_every < 1:
            raise ValueError(f"distill_every must be at least 1, but is {distill_every}")
        self.distill_weight, self.distill_every = distill_weight, distill_every
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        for option in ("normalize_variance", "normalize_variance_per_ch"):
            if distiller.uses_reference and getattr(self, option):
                raise ValueError(
                    f"model_conf.{option} scales mixtures, but not the references whose spectra "
                    "this distiller reads: leave it out"
                )
            if teacher is None and getattr(self, option):
                raise ValueError(
                    f"model_conf.{option} scales mixtures, but not the teacher's estimates in the "
                    "data: leave it out"
                )
            if teacher is not None and getattr(teacher, option) != getattr(self, option):
                raise ValueError(
                    f"model_conf.{option} differs between teacher ({getattr(teacher, option)}) and "
                    f"student ({getattr(self, option)}): they must see the same mixture"
                )
        self.distiller = distiller
        # A tuple hides the teacher from the module tree: no checkpoint, no optimizer, no train().
        self._hidden_teacher = (teacher and teacher.eval().requires_grad_(False),)

    @property
    def teacher(self) -> ESPnetEnhancementModel | None:
        """The frozen teacher; None if its estimates are part of the data."""
        return self._hidden_teacher[0]

    def _apply(self, fn, recurse=True):
        """Move the teacher along with the student; ``.to(device)`` calls this."""
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, speech_mix, speech_mix_lengths=None, **kwargs):
        """As ESPnet's; a batch without a teacher also holds ``teacher_estimate``, (B, samples)."""
        token = _estimate.set(kwargs.pop(TEACHER_ESTIMATE, None))
        try:
            return super().forward(speech_mix, speech_mix_lengths, **kwargs)
        finally:
            _estimate.reset(token)

    def forward_enhance(self, speech_mix, speech_lengths, additional=None, fs=None):
        """As ESPnet's; of a batch to distil, ``others["distill"]`` holds what is compared."""
        is_due = self.distill_every == 1 or int(self.distiller.updates) % self.distill_every == 0
        if not (self.training and is_due):
            return super().forward_enhance(speech_mix, speech_lengths, additional, fs)
        mixture = (speech_mix, speech_lengths, additional, fs)
        outputs, student = with_features(
            super().forward_enhance, self.separator, self.student_tap, *mixture
        )
        with torch.no_grad():
            if self.teacher is None:
                teacher = self._given_outputs(speech_lengths, fs)
            else:
                _, teacher = with_features(
                    self.teacher.forward_enhance, self.teacher.separator, self.teacher_tap, *mixture
                )
        outputs[3]["distill"] = (student, teacher, fs)
        return outputs

    def _given_outputs(self, speech_lengths: torch.Tensor, fs: int | None) -> DistillInputs:
        """The teacher's outputs as the data hold them."""
        waveform = _estimate.get()
        if waveform is None:
            raise ValueError(f"there is no teacher, and the data hold no {TEACHER_ESTIMATE}")
        spectrum, _ = self.encoder(waveform, speech_lengths, fs=fs)
        return DistillInputs({}, spectrum, waveform)

    def forward_loss(
        self, speech_pre, speech_lengths, feature_mix, feature_pre, others, speech_ref, *args, **kw
    ):
        """As ESPnet's, plus the distiller's loss in training; logs both separately."""
        others = dict(others)
        distill = others.pop("distill", None)
        loss, stats, weight, perm = super().forward_loss(
            speech_pre, speech_lengths, feature_mix, feature_pre, others, speech_ref, *args, **kw
        )
        if not self.training:
            return loss, stats, weight, perm
        self.distiller.updates += 1
        parts = {"enh_loss": loss.detach()}
        loss = self.distiller.enhancement_weight * loss
        if distill is None:  # DistributedDataParallel wants a gradient of every parameter
            loss = loss + 0 * sum(p.sum() for p in self.distiller.parameters())
        else:
            kd_loss, kd_stats = self._compared(*distill, speech_ref, speech_lengths)
            loss = loss + self.distill_every * self.distill_weight * kd_loss
            parts |= {"kd_loss": kd_loss.detach(), **kd_stats}
        stats |= force_gatherable({"loss": loss.detach(), **parts}, loss.device)
        return loss, stats, weight, perm

    def _compared(
        self,
        student: DistillInputs,
        teacher: DistillInputs,
        fs: int | None,
        speech_ref: list[torch.Tensor],
        speech_lengths: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The distiller's loss and its parts."""
        if self.distiller.uses_reference:
            waveform = speech_ref[0]
            if waveform.dim() == 3:  # as ESPnet chooses it
                waveform = waveform[..., self.ref_channel]
            with torch.no_grad():
                reference, _ = self.encoder(waveform, speech_lengths, fs=fs)
            student, teacher = (replace(x, reference=reference) for x in (student, teacher))
        with torch.autocast(speech_ref[0].device.type, enabled=False):
            return self.distiller(student, teacher)


def with_features(
    forward_enhance: Callable,
    separator: nn.Module,
    tap: FeatureTap | None,
    speech_mix: torch.Tensor,
    speech_lengths: torch.Tensor,
    additional: dict | None = None,
    fs: int | None = None,
) -> tuple[tuple, DistillInputs]:
    """Enhance a batch and keep what a distiller needs.

    Args:
        forward_enhance: Method of an ESPnet enhancement model.
        separator: Its separator.
        tap: Where the separator's features are, if it does not hand them out itself.
        speech_mix: Mixture, (B, samples) or (B, samples, M).
        speech_lengths: (B,).
        additional: For the separator.
        fs: Sampling rate.

    Returns:
        The outputs of ``forward_enhance``, and the features with the estimate. There are no
        features if the separator does not hand them out and there is no tap.

    Raises:
        ValueError: If the tap does not fit.
    """
    if tap is None:
        additional = {**(additional or {}), "feature_sets": True}
        outputs = forward_enhance(speech_mix, speech_lengths, additional, fs)
        sets = outputs[3].get("feature_sets", {})
    else:
        with tap.record(separator, len(speech_mix)) as sets:
            outputs = forward_enhance(speech_mix, speech_lengths, additional, fs)
    estimate, _, spectrum, _ = outputs
    return outputs, DistillInputs(sets, spectrum[0], estimate[0])
