"""Normalisation of time-frequency features, over an utterance or without looking ahead."""

from __future__ import annotations

import torch
from torch import distributed, nn
from torch.nn import functional as F

from espnet2_tfckd.functional import widened
from espnet2_tfckd.separator.stream import Stream

SCOPES = ("utterance", "cumulative", "frame", "batch")


class FeatureNorm(nn.Module):
    """Zero mean and unit variance, then a scale and a shift of each channel.

    Args:
        channels: Channels C.
        groups: Number of groups of channels with their own statistics: C for each channel, as in
            instance norm; 1 for all together.
        eps: Added to the variance.
        scope: Frames over which the statistics of a frame are taken, with all their bins:
            ``utterance`` for all frames, ``cumulative`` for the frame and those before it,
            ``frame`` for the frame alone.

    Shape:
        (B, C, T, F) to (B, C, T, F).
    """

    def __init__(self, channels: int, groups: int, eps: float, scope: str):
        super().__init__()
        self.groups, self.eps, self.scope = groups, eps, scope
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor, stream: Stream) -> torch.Tensor:
        if self.scope == "utterance":
            return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)
        batch, _, frames, bins = x.shape
        grouped = x.reshape(batch, self.groups, -1, frames, bins)
        mean = grouped.mean((2, 4), keepdim=True)
        if self.scope == "frame":
            variance = (grouped - mean).square().mean((2, 4), keepdim=True)
        else:
            power = grouped.square().mean((2, 4), keepdim=True)
            mean, variance = self._accumulate(mean, power, stream)
        normalised = (grouped - mean) * torch.rsqrt(variance + self.eps)
        return torch.addcmul(
            self.bias.view(-1, 1, 1), normalised.flatten(1, 2), self.weight.view(-1, 1, 1)
        )

    @staticmethod
    def _accumulate(mean, power, stream: Stream):
        """Mean and variance over the frames so far from each frame's, (B, G, 1, T, 1).

        Over hours of frames, rounding errors would add up. So the error of each sum is kept and
        corrected in the next chunk (W. Kahan, "Further remarks on reducing truncation errors",
        Communications of the ACM 8(1), 1965).
        """
        # of the frames so far: their number, mean, mean square, and what rounding added to these
        before = stream.take()  # (5, B, G, 1, 1, 1)
        if before is None:
            before = mean.new_zeros(5, *mean.shape[:3], 1, 1)
        seen = before[0] + torch.ones_like(mean).cumsum(3)
        averages, excesses = [], []
        for new, average, excess in ((mean, before[1], before[3]), (power, before[2], before[4])):
            step = (new - average).cumsum(3) / seen - excess
            averages.append(average + step)
            excesses.append((averages[-1] - average) - step)
        stream.put(torch.stack([x[:, :, :, -1:] for x in (seen, *averages, *excesses)]))
        mean, power = averages
        return mean, (power - mean**2).clamp_min(0)


class BatchNorm(nn.BatchNorm2d):
    """Each channel normalised by the statistics of the batch; after training, by their averages.

    A trained network then only scales and shifts, which an export folds into the layer before. A
    batch that is spread over the processes of a training has the statistics of all of it, on
    processors too, unlike :class:`torch.nn.SyncBatchNorm`.

    Shape:
        (B, C, T, F) to (B, C, T, F).
    """

    def forward(self, x: torch.Tensor, stream: Stream | None = None) -> torch.Tensor:
        is_spread = distributed.is_available() and distributed.is_initialized()
        if not (self.training and is_spread):
            return super().forward(x)
        from torch.distributed.nn.functional import all_reduce  # with gradients

        wide = widened(x)
        count = wide.new_tensor(x.numel() // self.num_features)
        distributed.all_reduce(count)
        mean = all_reduce(wide.sum((0, 2, 3))) / count
        centred = wide - mean.view(-1, 1, 1)
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        result = torch.addcmul(self.bias.view(-1, 1, 1), centred, scale.view(-1, 1, 1))
        return result.to(x.dtype)


def instance_norm(channels: int, scope: str) -> nn.Module:
    """Normalise each channel by its own statistics."""
    if scope == "batch":
        return BatchNorm(channels)
    return FeatureNorm(channels, channels, 1e-5, scope)


def global_norm(channels: int, scope: str) -> nn.Module:
    """Normalise all channels by the same statistics, or each by those of the batch."""
    if scope == "batch":
        return BatchNorm(channels)
    return FeatureNorm(channels, 1, 1e-8, scope)
