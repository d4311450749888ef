"""Similarities within one layer's features: frame to frame, and utterance to utterance.

Utterances are compared with all those of the batch. Where a batch of B utterances is spread over
several processes, each has the rows of its own b utterances; see
:mod:`espnet2_tfckd.distiller.ranks`. In one process, b is B.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

from espnet2_tfckd.distiller.ranks import gathered, own_utterances, ranks
from espnet2_tfckd.functional import widened

STREAMS = ("time", "frequency")
_NORM_EPS = 1e-6
_SILENT_POWER = 1e-20  # keeps the gradient of the norm of an all-zero frame finite
_MIN_SIMILARITY = 1e-7  # of a pair, after mapping to [0, 1]: its logarithm must stay finite


class LayerSimilarity(NamedTuple):
    """Similarities of a layer in one stream.

    Attributes:
        gram: Inner products; time (b, T, T), frequency (b, T, B).
        probability: Cosine similarities mapped to [0, 1], each row divided by its sum; same shape.
    """

    gram: torch.Tensor
    probability: torch.Tensor


class _Grams(torch.autograd.Function):
    """Inner products of frames within an utterance and of utterances within a frame.

    It is written out because the features are large. They are read in place, or a block of frames
    at a time where their order must change. Both results are symmetric, so one product for each
    stream gives the gradient, where autograd would need two.

    Shape:
        (B, C, T, F) to (B, T, T) and (T, B, B), None for a stream that is not asked for.
    """

    @staticmethod
    def forward(ctx, x, streams):
        x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)
        batch, _, frames, _ = x.shape
        time = frequency = None
        if "time" in streams:
            time = x.new_empty(batch, frames, frames)
            for utterance, gram in zip(x, time, strict=True):
                torch.addbmm(gram, utterance, utterance.transpose(1, 2), beta=0, out=gram)
        if "frequency" in streams:
            frequency = torch.cat([block @ block.transpose(1, 2) for _, block in _frame_blocks(x)])
        return time, frequency

    @staticmethod
    def backward(ctx, grad_time, grad_frequency):
        (x,) = ctx.saved_tensors
        grad = torch.zeros_like(x) if grad_time is None else torch.empty_like(x)
        if grad_time is not None:
            grad_time = grad_time + grad_time.transpose(1, 2)
            for utterance, symmetric, out in zip(x, grad_time, grad, strict=True):
                torch.bmm(symmetric.expand(len(utterance), -1, -1), utterance, out=out)
        if grad_frequency is not None:
            grad_frequency = grad_frequency + grad_frequency.transpose(1, 2)
            for at, block in _frame_blocks(x):
                across = grad_frequency[at] @ block  # (t, B, C * F)
                grad[:, :, at] += across.unflatten(2, (x.shape[1], x.shape[3])).permute(1, 2, 0, 3)
        return grad, None


def _frame_blocks(x: torch.Tensor, size: int = 2**20) -> Iterator[tuple[slice, torch.Tensor]]:
    """The features as (t, B, C * F), some frames at a time, so that a block fits the cache."""
    batch, channels, frames, bins = x.shape
    step = max(1, size // (batch * channels * bins))
    for start in range(0, frames, step):
        at = slice(start, start + step)
        yield at, x[:, :, at].permute(2, 0, 1, 3).flatten(2)


def grams(feature: torch.Tensor, streams: Sequence[str] = STREAMS) -> dict[str, torch.Tensor]:
    """Inner products within one layer's features, from one matrix product a stream.

    Args:
        feature: (b, C, T, F).
        streams: ``time``: the frames of an utterance with each other. ``frequency``: at each frame,
            the spectra of the utterances of the batch.

    Returns:
        By stream: time (b, T, T), frequency (T, b, B).
    """
    feature = widened(feature)
    by_stream = {}
    if ranks() > 1 and "frequency" in streams:
        by_stream["frequency"] = _frequency_gram_of_ranks(feature)
        here = [stream for stream in streams if stream != "frequency"]
    else:
        here = streams
    if here:
        time, frequency = _Grams.apply(feature, tuple(here))
        by_stream = {"time": time, "frequency": frequency} | by_stream
    return {stream: by_stream[stream] for stream in streams}


def _frequency_gram_of_ranks(feature: torch.Tensor) -> torch.Tensor:
    """(b, C, T, F) of every process to (T, b, B): its own utterances with all."""
    spectra = feature.permute(0, 2, 1, 3).flatten(2)  # (b, T, C * F)
    return spectra.transpose(0, 1) @ gathered(spectra).permute(1, 2, 0)


def batch_gram(feature: torch.Tensor) -> torch.Tensor:
    """Inner products of whole utterances of the batch, (b, C, T, F) to (b, B)."""
    flat = widened(feature).flatten(1)
    return flat @ gathered(flat).t()


def gram_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of Gram matrices (..., N, N) whose rows are scaled to length 1.

    The squared Frobenius norm of the difference over N^2, averaged over the leading axes. Of
    matrices spread over processes, the mean over this process's rows, (..., n, N).
    """
    return F.mse_loss(F.normalize(student, dim=-1), F.normalize(teacher, dim=-1))


def layer_similarities(
    feature: torch.Tensor, streams: Sequence[str] = STREAMS
) -> dict[str, LayerSimilarity]:
    """Similarities of one layer by stream, see :func:`grams`.

    Args:
        feature: (b, C, T, F).
        streams: ``time``, ``frequency`` or both.

    Returns:
        One :class:`LayerSimilarity` for each stream.

    References:
        arXiv 2506.13127, section on time-frequency cross-calibrated distillation. The floor under
        similarities is our addition: in the paper, two opposite frames give log(0).
    """
    similarities = {}
    for stream, gram in grams(feature, streams).items():
        if stream == "time":
            norm = _norms(gram)
            similarities[stream] = LayerSimilarity(gram, _probability(gram, norm, norm))
        else:
            norm = _norms(gram[..., own_utterances(len(feature))])  # (T, b)
            probability = _probability(gram, norm, gathered(norm.t()).t())
            # utterances first, as in the time stream
            similarities[stream] = LayerSimilarity(
                gram.transpose(0, 1), probability.transpose(0, 1)
            )
    return similarities


def _norms(gram: torch.Tensor) -> torch.Tensor:
    """Lengths of the vectors with these inner products, (..., N, N) to (..., N)."""
    power = gram.diagonal(dim1=-2, dim2=-1).clamp_min(0)
    return torch.sqrt(power + _SILENT_POWER) + _NORM_EPS


def _probability(
    gram: torch.Tensor, row_norms: torch.Tensor, column_norms: torch.Tensor
) -> torch.Tensor:
    """Row-normalised cosine similarity in [0, 1] from inner products (..., n, N) and lengths."""
    cosine = gram / (row_norms.unsqueeze(-1) * column_norms.unsqueeze(-2))
    similarity = ((cosine + 1) / 2).clamp_min(_MIN_SIMILARITY)
    return similarity / similarity.sum(-1, keepdim=True)


def symmetric_divergence(
    log_student: torch.Tensor,
    log_teacher: torch.Tensor,
    student: torch.Tensor,
    teacher: torch.Tensor,
) -> torch.Tensor:
    """Jeffreys divergence of rows of probabilities, averaged over the last axis.

    Args:
        log_student: Logarithm of ``student``.
        log_teacher: Logarithm of ``teacher``.
        student: Probabilities, (..., N).
        teacher: Probabilities, (..., N).

    Returns:
        mean over N of (teacher - student) * (log teacher - log student), (...).
    """
    return ((teacher - student) * (log_teacher - log_student)).mean(-1)
