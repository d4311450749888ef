"""The training-time model that joins student, teacher and distiller."""

from __future__ import annotations

import torch
from espnet2.enh.espnet_model import ESPnetEnhancementModel
from espnet2.torch_utils.device_funcs import force_gatherable

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs


class ESPnetEnhancementKDModel(ESPnetEnhancementModel):
    """ESPnet's enhancement model whose training loss also compares it with a teacher.

    In training, ``forward_enhance`` runs the teacher on the same mixture and hands both networks'
    features on in ``others``; ``forward_loss`` adds the distiller's loss to ESPnet's. In
    validation the teacher does not run: the loss is then the enhancement loss alone, comparable
    with that of a model trained without a teacher.

    ``state_dict()`` and ``parameters()`` hold student and distiller, never the teacher, which stays
    frozen and in eval mode.

    Args:
        teacher: A trained enhancement model.
        distiller: The distillation loss.
        kwargs: Those of :class:`ESPnetEnhancementModel`, for the student.

    Raises:
        ValueError: The two models normalise the mixture differently.
    """

    def __init__(self, *, teacher: ESPnetEnhancementModel, distiller: AbsDistiller, **kwargs):
        super().__init__(**kwargs)
        for option in ("normalize_variance", "normalize_variance_per_ch"):
            if getattr(teacher, option) != getattr(self, option):
                raise ValueError(
                    f"model_conf.{option} differs between teacher ({getattr(teacher, option)}) and "
                    f"student ({getattr(self, option)}): they must see the same mixture"
                )
        self.distiller = distiller
        # A tuple hides the teacher from the module tree: no checkpoint, no optimizer, no train().
        self._hidden_teacher = (teacher.eval().requires_grad_(False),)

    @property
    def teacher(self) -> ESPnetEnhancementModel:
        """The frozen teacher."""
        return self._hidden_teacher[0]

    def _apply(self, fn, recurse=True):
        """Move the teacher along with the student, ``.to(device)`` being made of this."""
        self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward_enhance(self, speech_mix, speech_lengths, additional=None, fs=None):
        """As ESPnet's; in training, ``others["distill"]`` holds (student, teacher) inputs."""
        if not self.training:
            return super().forward_enhance(speech_mix, speech_lengths, additional, fs)
        additional = {**(additional or {}), "feature_sets": True}
        outputs = super().forward_enhance(speech_mix, speech_lengths, additional, fs)
        with torch.no_grad():
            teacher = self.teacher.forward_enhance(speech_mix, speech_lengths, additional, fs)
        outputs[3]["distill"] = (_distill_inputs(*outputs), _distill_inputs(*teacher))
        return outputs

    def forward_loss(
        self, speech_pre, speech_lengths, feature_mix, feature_pre, others, *args, **kw
    ):
        """As ESPnet's, plus the distiller's loss in training; logs both apart."""
        others = dict(others)
        distill = others.pop("distill", None)
        loss, stats, weight, perm = super().forward_loss(
            speech_pre, speech_lengths, feature_mix, feature_pre, others, *args, **kw
        )
        if distill is None:
            return loss, stats, weight, perm
        with torch.autocast(loss.device.type, enabled=False):
            kd_loss, kd_stats = self.distiller(*distill)
        enhancement_loss = loss
        loss = loss + kd_loss
        parts = {
            "loss": loss.detach(),
            "enh_loss": enhancement_loss.detach(),
            "kd_loss": kd_loss.detach(),
            **kd_stats,
        }
        stats |= force_gatherable(parts, loss.device)
        return loss, stats, weight, perm


def _distill_inputs(speech_pre, feature_mix, feature_pre, others) -> DistillInputs:
    return DistillInputs(others["feature_sets"], feature_pre[0], speech_pre[0])
