"""The interface of all distillation schemes."""

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
        feature_sets: For ``encoder``, ``bottleneck`` and ``decoder``, the output of each layer in
            the order in which the signal passes them, (B, C, T, F). Empty if a network does not
            hand out features and the configuration names no layers.
        spectrum: Complex spectrum of the estimate, (B, T, F).
        waveform: Estimate in the time domain, (B, samples).
        reference: Complex spectrum of the signal to be estimated, (B, T, F); None for schemes
            without ``uses_reference``.
    """

    feature_sets: FeatureSets
    spectrum: torch.Tensor
    waveform: torch.Tensor
    reference: torch.Tensor | None = None

    def detach(self) -> DistillInputs:
        """The same tensors without gradient history, as a teacher's must be."""
        return DistillInputs(
            {name: [x.detach() for x in layers] for name, layers in self.feature_sets.items()},
            self.spectrum.detach(),
            self.waveform.detach(),
            self.reference,
        )


@dataclass(frozen=True)
class Sizes:
    """Sizes of what a scheme will see.

    Attributes:
        student: (C, F) of every student layer, by set; empty for a scheme on outputs alone.
        teacher: The same of the teacher.
        frames: Frames of a training batch; 0 for a scheme on outputs alone.
        batch_size: Utterances of a training batch, at most.
    """

    student: FeatureShapes
    teacher: FeatureShapes
    frames: int
    batch_size: int


class AbsDistiller(nn.Module, ABC):
    """A distillation loss, with the parameters that it learns beside the student.

    A scheme is built as ``Scheme(sizes, **distiller_conf)``: each further argument of its
    ``__init__`` is an option of the YAML.

    Attributes:
        uses_features: Whether the scheme compares features, and not only outputs.
        uses_reference: Whether it looks at the reference's spectrum.
        revision: Raised when the scheme computes something else than before. A student that was
            trained with an earlier revision does not count as trained with the present one.
        updates: Training batches so far, including the present one; the caller counts them, and
            checkpoints keep them.
    """

    uses_features: ClassVar[bool] = True
    uses_reference: ClassVar[bool] = False
    revision: ClassVar[int] = 1

    def __init__(self, sizes: Sizes):
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
