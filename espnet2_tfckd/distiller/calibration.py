"""Time-frequency cross-calibration: how much each teacher layer teaches each student layer."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.distiller.pairing import to_common_bins
from espnet2_tfckd.distiller.ranks import mean_over_ranks, ranks
from espnet2_tfckd.distiller.similarity import (
    STREAMS,
    LayerSimilarity,
    layer_similarities,
    symmetric_divergence,
)
from espnet2_tfckd.functional import widened

UNLEARNT_WEIGHTINGS = ("uniform", "nearest")
WEIGHTINGS = ("own", "exchanged", *UNLEARNT_WEIGHTINGS)
_SILENT_POWER = 1e-6  # of a teacher's layer: below, its errors count as they are


class SimilarityEmbedding(nn.Module):
    """Two-layer perceptron on the rows of a Gram matrix, normalised over the frames.

    Shape:
        (B, T, N) to (B, T, D). A matrix without frames, (B, N), gives (B, D), normalised over the
        embedding. N may be below ``size`` (a batch smaller than the configured one): the missing
        columns count as zero.
    """

    def __init__(self, size: int, hidden: int, output: int):
        super().__init__()
        self.fc1 = nn.Linear(size, hidden)
        self.fc2 = nn.Linear(hidden, output)

    def forward(self, gram: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(F.linear(gram, self.fc1.weight[:, : gram.shape[-1]], self.fc1.bias))
        return F.normalize(self.fc2(hidden), dim=1)


class TFCalibration(nn.Module):
    """Distillation loss of one correlated set of layers, calibrated in time and frequency.

    Args:
        student_layers: Number of student layers, Ns.
        teacher_layers: Number of teacher layers, Nt.
        frames: Frames T of a training batch.
        batch_size: Utterances of a training batch, at most.
        streams: The streams that contribute: ``time``, ``frequency`` or both.
        weighting: ``own``: a stream's weights multiply its own divergence, as in the reference
            code. ``exchanged``: the other stream's. ``uniform``: 1 / Nt, no calibration.
            ``nearest``: the smaller a teacher layer's divergence is, compared with the others, the
            larger its weight. Nothing is learnt, so any number of frames and utterances is
            allowed.
        frequency_expansion: Width of the frequency embeddings over ``batch_size``.
        regressed_channels: If None, the similarities of a pair of layers are compared, as
            published. If channels of the student's and the teacher's layers, their values are
            compared, see :class:`LayerRegression`.

    References:
        arXiv 2506.13127, "time-frequency cross-calibrated distillation".
    """

    def __init__(
        self,
        student_layers: int,
        teacher_layers: int,
        frames: int,
        batch_size: int,
        streams: tuple[str, ...] = STREAMS,
        weighting: str = "own",
        frequency_expansion: int = 4,
        regressed_channels: tuple[list[int], list[int]] | None = None,
    ):
        super().__init__()
        self.frames, self.batch_size = frames, batch_size
        self.streams, self.weighting = streams, weighting
        self.teacher_layers = teacher_layers
        wide = frequency_expansion * batch_size
        sizes = {"time": (frames, 2 * frames, frames), "frequency": (batch_size, wide, wide)}
        self.regression = LayerRegression(*regressed_channels) if regressed_channels else None
        self.query, self.key = nn.ModuleDict(), nn.ModuleDict()
        if weighting in UNLEARNT_WEIGHTINGS:
            return
        for stream in _weight_sources(streams, weighting):
            self.query[stream] = _embeddings(student_layers, sizes[stream])
            self.key[stream] = _embeddings(teacher_layers, sizes[stream])

    def forward(
        self, student: list[torch.Tensor], teacher: list[torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Compute the set's loss.

        Args:
            student: Features of the set's layers, each (B, C, T, F).
            teacher: The same of the teacher. They are the target: the student is compared with
                detached values, and only the calibration's keys pass a gradient to them.

        Returns:
            The loss; each stream's part of it; and each stream's weights, (B, T, Ns, Nt), whose sum
            over Nt is 1.

        Raises:
            ValueError: If T is not ``frames`` or the batch is larger than ``batch_size``.
        """
        self._check(student + teacher)
        student_similarities = [self._similarities(x) for x in student]
        teacher_similarities = [self._similarities(x) for x in teacher]
        if self.regression:  # the mean over frames, once for all streams
            targets = [x.detach() for x in teacher]
            errors = self.regression(student, targets) / (student[0].shape[2] * len(self.streams))
            divergences = dict.fromkeys(self.streams, errors)
        else:
            divergences = {
                stream: _divergences(
                    [layer[stream].probability for layer in student_similarities],
                    [layer[stream].probability.detach() for layer in teacher_similarities],
                )
                for stream in self.streams
            }
        if self.weighting == "uniform":
            weights = {
                stream: torch.full_like(divergence, 1 / self.teacher_layers)
                for stream, divergence in divergences.items()
            }
        elif self.weighting == "nearest":
            weights = {
                stream: _nearness(divergence.detach()) for stream, divergence in divergences.items()
            }
        else:
            weights = self.weights(student_similarities, teacher_similarities)
        parts = {
            # summed over frames and teacher layers; averaged over utterances and student layers
            stream: (weights[_source(stream, self.weighting)] * divergence).sum((1, 3)).mean()
            for stream, divergence in divergences.items()
        }
        return sum(parts.values()), parts, weights

    def _similarities(self, feature: torch.Tensor) -> dict[str, LayerSimilarity]:
        needed = {*self.query} if self.regression else {*self.streams, *self.query}
        return layer_similarities(feature, sorted(needed))

    def weights(
        self,
        student: list[dict[str, LayerSimilarity]],
        teacher: list[dict[str, LayerSimilarity]],
    ) -> dict[str, torch.Tensor]:
        """Learnt weights of every stream that needs them, (B, T, Ns, Nt)."""
        weights = {}
        for stream, queries in self.query.items():
            keys = self.key[stream]
            query = [
                embed(layer[stream].gram) for embed, layer in zip(queries, student, strict=True)
            ]
            key = [embed(layer[stream].gram) for embed, layer in zip(keys, teacher, strict=True)]
            energy = torch.einsum("btid,btjd->btij", torch.stack(query, 2), torch.stack(key, 2))
            weights[stream] = energy.softmax(-1)
        return weights

    def _check(self, features: list[torch.Tensor]) -> None:
        batch, _, frames, _ = features[0].shape
        whole_batch = batch * ranks()
        if any(x.shape[0] != batch or x.shape[2] != frames for x in features):
            raise ValueError(
                "student and teacher features differ in batch size or frame rate: "
                f"{[tuple(x.shape) for x in features]}; use the same STFT hop in both"
            )
        if self.query and (frames != self.frames or whole_batch > self.batch_size):
            raise ValueError(
                f"a batch of {whole_batch} utterances of {frames} frames does not fit the "
                f"calibration, built for up to {self.batch_size} of exactly {self.frames}: train "
                "with iterator_type chunk and one fixed chunk_length"
            )


class LayerRegression(nn.Module):
    """How badly a 1x1 convolution of each student layer predicts each teacher layer, by frame.

    Squared error over the mean square of the teacher's layer: 0 for an exact prediction, 1 for one
    that is no better than 0. The wider map of a pair is averaged down in frequency.

    Args:
        student_channels: Channels of the student's layers.
        teacher_channels: The same of the teacher.

    Shape:
        Lists of (B, C, T, F) to (B, T, Ns, Nt).
    """

    def __init__(self, student_channels: list[int], teacher_channels: list[int]):
        super().__init__()
        self.regressors = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(own, target, 1) for target in teacher_channels)
            for own in student_channels
        )

    def forward(self, student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
        rows = [
            torch.stack(
                [_error(regress, x, y) for regress, y in zip(row, teacher, strict=True)], -1
            )
            for row, x in zip(self.regressors, student, strict=True)
        ]
        return torch.stack(rows, 2)


def _error(regress: nn.Module, feature: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(B, C, T, F) of student and teacher to (B, T)."""
    own, target = to_common_bins(widened(feature), widened(target))
    power = mean_over_ranks(target.square().mean()).clamp_min(_SILENT_POWER)
    return (regress(own) - target).square().mean((1, 3)) / power


def _embeddings(layers: int, sizes: tuple[int, int, int]) -> nn.ModuleList:
    return nn.ModuleList(SimilarityEmbedding(*sizes) for _ in range(layers))


def _source(stream: str, weighting: str) -> str:
    """The stream whose weights multiply this stream's divergence."""
    if weighting == "exchanged":
        return "frequency" if stream == "time" else "time"
    return stream


def _weight_sources(streams: tuple[str, ...], weighting: str) -> list[str]:
    return sorted({_source(stream, weighting) for stream in streams})


def _nearness(divergence: torch.Tensor) -> torch.Tensor:
    """Weights (..., Nt) from divergences (..., Nt): softmax of how far each is below their mean."""
    mean = divergence.mean(-1, keepdim=True).clamp_min(torch.finfo(divergence.dtype).tiny)
    return (-divergence / mean).softmax(-1)


def _divergences(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """Divergence of the probabilities (B, T, N) of every pair of layers, (B, T, Ns, Nt)."""
    student_pairs = [(probability.log(), probability) for probability in student]
    teacher_pairs = [(probability.log(), probability) for probability in teacher]
    rows = [
        torch.stack(
            [
                symmetric_divergence(log_student, log_teacher, p_student, p_teacher)
                for log_teacher, p_teacher in teacher_pairs
            ],
            -1,
        )
        for log_student, p_student in student_pairs
    ]
    return torch.stack(rows, 2)
