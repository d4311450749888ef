"""I2SRF-TFCKD: intra-set and inter-set distillation with time-frequency cross-calibration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from espnet2_tfckd.distiller.abs_distiller import (
    FEATURE_SETS,
    AbsDistiller,
    DistillInputs,
    FeatureShapes,
    Sizes,
)
from espnet2_tfckd.distiller.calibration import (
    UNLEARNT_WEIGHTINGS,
    WEIGHTINGS,
    TFCalibration,
)
from espnet2_tfckd.distiller.fusion import RecursiveFusion, widest_layer
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.distiller.similarity import STREAMS

FUSIONS = ("recursive", "last")
MATCHINGS = ("similarity", "regression")


@register_distiller("i2srf_tfckd", revision=2)
class I2SRFTFCKDDistiller(AbsDistiller):
    """Matches each set of layers, and the sets' representatives, between student and teacher.

    loss = intra_weight * (encoder + bottleneck + decoder) + inter_weight * inter

    The published scheme has intra- and inter-set losses of weight 1, all sets, both streams,
    ``own`` weighting and recursive fusion. The options below are ablations of it; ``sets``,
    ``nearest``, ``teacher_fusion`` and ``matching: regression`` are our own variants.

    The teacher's side is a target in every set, including the inter-set one: its probabilities are
    detached, and its fusion learns only through the calibration's keys. Without calibration
    (``uniform``, ``nearest``), the teacher's fusion keeps its initial weights.

    Args:
        sizes: Sizes of the features and of a training batch.
        intra_weight: Weight of the losses within the sets; 0 leaves them out.
        inter_weight: Weight of the loss between the sets' representatives; 0 leaves it out.
        sets: The sets that are compared, of ``encoder``, ``bottleneck`` and ``decoder``.
        streams: ``both``, ``time`` or ``frequency``.
        weighting: ``own``, ``exchanged``, ``uniform`` or ``nearest``, see :class:`TFCalibration`.
        fusion: ``recursive``, or ``last``: the layer that the recursion ends with represents its
            set as it is.
        teacher_fusion: The same for the teacher; by default as ``fusion``.
        fusion_channels: Width in which layers are fused; by default the teacher's widest layer.
        frequency_expansion: Width of the frequency stream's embeddings over ``batch_size``.
        matching: ``similarity``, or ``regression``: the teacher's values are compared with those
            predicted from the student's, not the similarities within each.

    Raises:
        ValueError: If an option is unknown, a weight is negative, both weights are 0, or no set is
            left.

    References:
        arXiv 2506.13127. Where the abstract's "cross-weighting" and the published code differ,
        ``weighting: own`` is the code's reading and ``exchanged`` the other one. The paper fuses in
        128 channels, the width of its teacher.
    """

    def __init__(
        self,
        sizes: Sizes,
        intra_weight: float = 1.0,
        inter_weight: float = 1.0,
        sets: Sequence[str] = FEATURE_SETS,
        streams: str = "both",
        weighting: str = "own",
        fusion: str = "recursive",
        teacher_fusion: str | None = None,
        fusion_channels: int | None = None,
        frequency_expansion: int = 4,
        matching: str = "similarity",
    ):
        super().__init__(sizes)
        if not sets or len(set(sets)) < len(sets):
            raise ValueError(f"sets must name each set once, and one at least, not {list(sets)}")
        for name in sets:
            _check_choice("sets", name, FEATURE_SETS)
        _check_choice("streams", streams, ("both", *STREAMS))
        _check_choice("weighting", weighting, WEIGHTINGS)
        _check_choice("fusion", fusion, FUSIONS)
        teacher_fusion = teacher_fusion or fusion
        _check_choice("teacher_fusion", teacher_fusion, FUSIONS)
        _check_choice("matching", matching, MATCHINGS)
        if min(intra_weight, inter_weight) < 0 or intra_weight == inter_weight == 0:
            raise ValueError(
                f"intra_weight ({intra_weight}) and inter_weight ({inter_weight}) must not be "
                "negative, nor both 0"
            )
        self.intra_weight, self.inter_weight = intra_weight, inter_weight
        self.sets = tuple(name for name in FEATURE_SETS if name in sets)

        def calibration(student_channels: list[int], teacher_channels: list[int]) -> TFCalibration:
            return TFCalibration(
                len(student_channels),
                len(teacher_channels),
                sizes.frames,
                sizes.batch_size,
                STREAMS if streams == "both" else (streams,),
                weighting,
                frequency_expansion,
                (student_channels, teacher_channels) if matching == "regression" else None,
            )

        self.calibrations = nn.ModuleDict()
        if intra_weight:
            for name in self.sets:
                self.calibrations[name] = calibration(
                    _channels(sizes.student[name]), _channels(sizes.teacher[name])
                )
        if inter_weight:
            self.calibrations["inter"] = calibration(
                *(
                    [_channels(_recursion_order(name, shapes[name]))[-1] for name in self.sets]
                    for shapes in (sizes.student, sizes.teacher)
                )
            )
        width = fusion_channels or widest_layer(sizes.teacher)
        self.student_fusion, self.teacher_fusion = nn.ModuleDict(), nn.ModuleDict()
        for kind, fusions, shapes in (
            (fusion, self.student_fusion, sizes.student),
            (teacher_fusion, self.teacher_fusion, sizes.teacher),
        ):
            if inter_weight and kind == "recursive":
                for name in self.sets:
                    fusions[name] = _fusion(name, shapes, width)
        if weighting in UNLEARNT_WEIGHTINGS:  # calibration is its only source of gradients
            self.teacher_fusion.requires_grad_(False)

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs each set's loss, and each stream's part of it."""
        teacher_sets = teacher.detach().feature_sets
        student_sets = student.feature_sets
        pairs = {name: (student_sets[name], teacher_sets[name]) for name in self.sets}
        if self.inter_weight:
            pairs["inter"] = (
                self._representatives(student_sets, self.student_fusion),
                self._representatives(teacher_sets, self.teacher_fusion),
            )
        total, stats = 0.0, {}
        for name, calibration in self.calibrations.items():
            loss, parts, _ = calibration(*pairs[name])
            weight = self.inter_weight if name == "inter" else self.intra_weight
            total = total + weight * loss
            stats[f"kd_{name}"] = loss.detach()
            stats |= {f"kd_{name}_{stream}": part.detach() for stream, part in parts.items()}
        return total, stats

    def _representatives(self, feature_sets, fusions: nn.ModuleDict) -> list[torch.Tensor]:
        representatives = []
        for name in self.sets:
            layers = _recursion_order(name, feature_sets[name])
            representatives.append(fusions[name](layers) if len(fusions) else layers[-1])
        return representatives


def _recursion_order(name: str, layers: list) -> list:
    """Encoder and bottleneck from first to last layer, the decoder from its output back."""
    return layers[::-1] if name == "decoder" else layers


def _fusion(name: str, shapes: FeatureShapes, mid_channels: int) -> RecursiveFusion:
    return RecursiveFusion(_channels(_recursion_order(name, shapes[name])), mid_channels)


def _channels(shapes: list[tuple[int, int]]) -> list[int]:
    return [channels for channels, _ in shapes]


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{option} must be one of {', '.join(choices)}, not {value!r}")
