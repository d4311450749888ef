"""Normalisation of time-frequency features, over an utterance or without looking ahead."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.separator.stream import Stream

SCOPES = ("utterance", "cumulative", "frame")


class FeatureNorm(nn.Module):
    """Zero mean and unit variance, then a scale and a shift of each channel.

    Args:
        channels: Channels C.
        groups: Parts of the channels that have statistics of their own: C, each channel, as
            instance norm has; 1, all together.
        eps: Added to the variance.
        scope: Frames that the statistics of a frame are taken over, with all their bins:
            ``utterance``: all; ``cumulative``: itself and those before it; ``frame``: itself.

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
        grouped = x.unflatten(1, (self.groups, -1))  # (B, G, C / G, T, F)
        variance, mean = torch.var_mean(grouped, (2, 4), correction=0, keepdim=True)
        if self.scope == "cumulative":
            mean, variance = self._accumulate(mean, variance, stream)
        normalised = (grouped - mean) * torch.rsqrt(variance + self.eps)
        return torch.addcmul(
            self.bias.view(-1, 1, 1), normalised.flatten(1, 2), self.weight.view(-1, 1, 1)
        )

    @staticmethod
    def _accumulate(mean, variance, stream: Stream):
        """Mean and variance over the frames so far, (B, G, 1, T, 1), from those of each frame."""
        # frames so far, mean and mean square over them: (3, B, G, 1, 1, 1)
        before = stream.take()
        if before is None:
            before = mean.new_zeros(3, *mean.shape[:3], 1, 1)
        seen = before[0] + torch.arange(1, mean.shape[3] + 1, device=mean.device).view(-1, 1)
        power = variance + mean**2
        mean = (before[0] * before[1] + mean.cumsum(3)) / seen
        power = (before[0] * before[2] + power.cumsum(3)) / seen
        stream.put(torch.stack([x[:, :, :, -1:] for x in (seen, mean, power)]))
        return mean, (power - mean**2).clamp_min(0)


def instance_norm(channels: int, scope: str) -> FeatureNorm:
    """Each channel by statistics of its own."""
    return FeatureNorm(channels, channels, 1e-5, scope)


def global_norm(channels: int, scope: str) -> FeatureNorm:
    """All channels by the same statistics."""
    return FeatureNorm(channels, 1, 1e-8, scope)
