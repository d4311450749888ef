"""Convolutional building blocks of DPDCRN."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.functional import prelu
from espnet2_tfckd.separator.normalization import instance_norm
from espnet2_tfckd.separator.stream import Stream


class ConvLayer(nn.Module):
    """A (transposed) convolution along frequency, instance norm, PReLU.

    Args:
        channels: Channels C of the output.
        scope: Scope of the norm, see :class:`FeatureNorm`.
        conv: The convolution, given under the name that it should have in the module.

    Shape:
        (B, C_in, T, F) to (B, C, T, F').
    """

    def __init__(self, channels: int, scope: str, **conv: nn.Module):
        super().__init__()
        ((self.conv_name, module),) = conv.items()
        self.add_module(self.conv_name, module)
        self.norm = instance_norm(channels, scope)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: torch.Tensor, stream: Stream, bins: int | None = None) -> torch.Tensor:
        """``bins``: how many of the output are wanted, of a transposed convolution; all if None."""
        return self.activate(self.get_submodule(self.conv_name)(x)[..., :bins], stream)

    def activate(self, x: torch.Tensor, stream: Stream) -> torch.Tensor:
        return prelu(self.norm(x, stream), self.prelu.weight)


class DenseBlock(nn.Module):
    """Densely connected convolutions whose dilation over time doubles from layer to layer.

    Layer i sees the outputs of layers i-1, ..., 0 and the block's input, in that order. They are
    not concatenated: each is convolved with its slice of the kernel, and the results are summed. So
    the frames that a dilation looks back on are padded once per feature, for all later layers.

    Shape:
        (B, C, T, F) to (B, C, T, F), causal in T.
    """

    def __init__(self, channels: int, depth: int, scope: str):
        super().__init__()
        self.dense = nn.ModuleList(
            ConvLayer(
                channels,
                scope,
                conv=nn.Conv2d((i + 1) * channels, channels, (2, 3), dilation=(2**i, 1)),
            )
            for i in range(depth)
        )
        self.past = 2 ** (depth - 1)  # frames that the largest dilation looks back

    def forward(self, x: torch.Tensor, stream: Stream) -> torch.Tensor:
        inputs: list[torch.Tensor] = []
        for layer in self.dense:
            inputs.insert(0, stream.with_past(x, self.past))
            skip = self.past - layer.conv.dilation[0]
            total = self._convolve([past[:, :, skip:] for past in inputs], layer.conv)
            x = layer.activate(total, stream)
        return x

    @staticmethod
    def _convolve(inputs: list[torch.Tensor], conv: nn.Conv2d) -> torch.Tensor:
        total = None
        kernels = conv.weight.split(conv.out_channels, dim=1)
        for feature, kernel in zip(inputs, kernels, strict=True):
            bias = conv.bias if total is None else None
            part = F.conv2d(feature, kernel, bias, padding=(0, 1), dilation=conv.dilation)
            total = part if total is None else total + part
        return total


class PointwiseLayer(nn.Module):
    """1x1 convolution and single-slope PReLU, in either order, (B, C_in, T, F) to (B, C, T, F)."""

    def __init__(self, in_channels: int, channels: int, activate_first: bool):
        super().__init__()
        self.activate_first = activate_first
        self.conv = nn.Conv2d(in_channels, channels, 1)
        self.prelu = nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.activate_first:
            return self.conv(prelu(x, self.prelu.weight))
        return prelu(self.conv(x), self.prelu.weight)
