"""DPDCRN written out module by module, slowly and obviously: the oracle and the speed baseline.

Every layer is a stock ``torch.nn`` module called in the order of the network's description,
attention is ``nn.MultiheadAttention`` at its defaults, dense inputs are concatenated, and every
feature set is computed. Parameter names are those of
:class:`espnet2_tfckd.separator.dpdcrn.DPDCRNSeparator`, so a state dict fits both.
"""

from __future__ import annotations

import torch
from torch import nn


class ConvLayer(nn.Module):
    def __init__(self, conv: nn.Module, channels: int, name: str = "conv"):
        super().__init__()
        self.name = name
        setattr(self, name, conv)
        self.norm = nn.InstanceNorm2d(channels, affine=True)
        self.prelu = nn.PReLU(channels)

    def forward(self, x):
        return self.prelu(self.norm(getattr(self, self.name)(x)))


class DenseBlock(nn.Module):
    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.dense = nn.ModuleList(
            ConvLayer(nn.Conv2d((i + 1) * channels, channels, (2, 3), dilation=(2**i, 1)), channels)
            for i in range(depth)
        )

    def forward(self, x):
        history = x
        for i, layer in enumerate(self.dense):
            output = layer(nn.functional.pad(history, (1, 1, 2**i, 0)))
            history = torch.cat([output, history], dim=1)
        return output


class Path(nn.Module):
    def __init__(self, width: int, heads: int, bidirectional: bool):
        super().__init__()
        self.attention_prenorm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.gru = nn.GRU(width, 2 * width, batch_first=True, bidirectional=bidirectional)
        self.gru_projection = nn.Linear(2 * width * (1 + bidirectional), width)
        self.gru_norm = nn.LayerNorm(width)

    def forward(self, x):
        normed = self.attention_prenorm(x)
        x = self.attention_norm(x + self.attention(normed, normed, normed)[0])
        recurrent = self.gru_projection(torch.relu(self.gru(x)[0]))
        return self.gru_norm(x + recurrent)


class Head(nn.Module):
    def __init__(self, width_in: int, width_out: int, prelu_first: bool):
        super().__init__()
        self.prelu_first = prelu_first
        self.prelu = nn.PReLU()
        self.conv = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x):
        return self.conv(self.prelu(x)) if self.prelu_first else self.prelu(self.conv(x))


class DualPath(nn.Module):
    def __init__(self, channels: int, blocks: int, heads: int):
        super().__init__()
        width = channels // 2
        self.input = Head(channels, width, prelu_first=False)
        self.frequency = nn.ModuleList(Path(width, heads, True) for _ in range(blocks))
        self.time = nn.ModuleList(Path(width, heads, False) for _ in range(blocks))
        self.frequency_norm = nn.ModuleList(nn.GroupNorm(1, width, eps=1e-8) for _ in range(blocks))
        self.time_norm = nn.ModuleList(nn.GroupNorm(1, width, eps=1e-8) for _ in range(blocks))
        self.frequency_scale = nn.Parameter(torch.ones(1))
        self.time_scale = nn.Parameter(torch.ones(1))
        self.output = Head(width, channels, prelu_first=True)

    def forward(self, x):
        x = self.input(x)
        batch, width, frames, bins = x.shape
        features = []
        for n in range(len(self.frequency)):
            rows = x.permute(0, 2, 3, 1).reshape(batch * frames, bins, width)
            rows = self.frequency[n](rows).reshape(batch, frames, bins, width)
            columns = x.permute(0, 3, 2, 1).reshape(batch * bins, frames, width)
            columns = self.time[n](columns).reshape(batch, bins, frames, width)
            x = (
                x
                + self.frequency_scale * self.frequency_norm[n](rows.permute(0, 3, 1, 2))
                + self.time_scale * self.time_norm[n](columns.permute(0, 3, 2, 1))
            )
            features.append(self.output(x))
        return features


class Deconv(nn.Module):
    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.deconv = nn.ConvTranspose2d(channels, out_channels, (1, 3), stride=(1, 2))

    def forward(self, x):
        return self.deconv(x)[..., :-2]


class NaiveDPDCRN(nn.Module):
    """Input (B, 2M, T, 257); returns the masked spectrum (B, T, 257) and all feature sets."""

    def __init__(self, channels, blocks, depth=4, heads=4, microphones=1):
        super().__init__()
        self.microphones = microphones
        c = channels
        self.encoder = nn.ModuleList(
            [
                ConvLayer(nn.Conv2d(2 * microphones, c, (1, 3), (1, 2), (0, 1)), c),
                ConvLayer(nn.Conv2d(c, c, (1, 3), (1, 2)), c),
                DenseBlock(c, depth),
            ]
        )
        self.dual_path = DualPath(c, blocks, heads)
        self.decoder = nn.ModuleList(
            [
                DenseBlock(c, depth),
                ConvLayer(nn.ConvTranspose2d(c, c, (1, 3), (1, 2)), c, name="deconv"),
                Deconv(c, 2),
            ]
        )

    def forward(self, x):
        real, imag = x[:, 0], x[:, self.microphones]
        encoder, decoder = [], []
        for layer in self.encoder:
            x = layer(x)
            encoder.append(x)
        bottleneck = self.dual_path(x)
        x = bottleneck[-1]
        for layer in self.decoder:
            x = layer(x)
            decoder.append(x)
        mask = torch.complex(x[:, 0], x[:, 1])
        magnitude = torch.sqrt(real**2 + imag**2 + 1e-8) * torch.tanh(mask.abs())
        phase = torch.atan2(imag, real) + torch.atan2(x[:, 1], x[:, 0])
        estimate = torch.polar(magnitude, phase)
        return estimate, {"encoder": encoder, "bottleneck": bottleneck, "decoder": decoder}
