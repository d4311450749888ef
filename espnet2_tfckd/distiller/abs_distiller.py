"""What every distillation scheme takes and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

FEATURE_SETS = ("encoder", "bottleneck", "decoder")

FeatureSets = dict[str, list[torch.Tensor]]
FeatureShapes = dict[str, list[tuple[int, int]]]


@dataclass(frozen=True)
class DistillInputs:
    """What one network made of a batch.

    Attributes:
        feature_sets: ``encoder``, ``bottleneck`` and ``decoder``: the output of each layer of the
            set in the order of the signal's way, (B, C, T, F). Empty where a network hands out none
            and nobody names its layers.
        spectrum: Complex spectrum of the estimate, (B, T, F).
        waveform: Estimate in the time domain, (B, samples).
        reference: Complex spectrum of the signal to be estimated, (B, T, F).
    """

    feature_sets: FeatureSets
    spectrum: torch.Tensor
    waveform: torch.Tensor
    reference: torch.Tensor | None = None

    def detach(self) -> DistillInputs:
        """The same tensors without their history, as a teacher's must be."""
        return DistillInputs(
            {name: [x.detach() for x in layers] for name, layers in self.feature_sets.items()},
            self.spectrum.detach(),
            self.waveform.detach(),
            self.reference,
        )


class AbsDistiller(nn.Module, ABC):
    """A distillation loss, with whatever it learns beside the student.

    A scheme is built from the sizes of the features it will see::

        Scheme(student_shapes, teacher_shapes, frames, batch_size, **distiller_conf)

    where the shapes give (C, F) of every layer, by set, and ``frames`` and ``batch_size`` are those
    of a training batch. A scheme on the outputs alone gets no shapes and 0 frames.

    Attributes:
        uses_features: Whether the scheme compares features, and not outputs alone.
        updates: Training batches so far, the present one included; counted by who calls the scheme,
            and kept in checkpoints.
    """

    uses_features: ClassVar[bool] = True

    def __init__(
        self,
        student_shapes: FeatureShapes,
        teacher_shapes: FeatureShapes,
        frames: int,
        batch_size: int,
    ):
        super().__init__()
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @property
    def enhancement_weight(self) -> float:
        """Weight of the enhancement loss beside the distillation loss at the present update."""
        return 1.0

    @abstractmethod
    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Compare a student with its teacher.

        Args:
            student: What the student made of the batch, with gradient.
            teacher: What the teacher made of the same batch.

        Returns:
            The loss, a scalar to be added to the enhancement loss, and its parts for the log:
            detached scalars by name, ``kd_...``. The teacher receives no gradient.
        """
