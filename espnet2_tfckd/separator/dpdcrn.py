"""DPDCRN: dual-path dilated convolutional recurrent network, teacher and student backbone."""

from __future__ import annotations

import torch
from espnet2.enh.separator.abs_separator import AbsSeparator
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.separator.convolution import ConvLayer, DenseBlock, PointwiseLayer


class SequencePath(nn.Module):
    """Self-attention, then a GRU, along one axis; each with a residual and layer norm.

    Shape:
        (L, N, width) to (L, N, width): L steps of N independent sequences.
    """

    def __init__(self, width: int, heads: int, bidirectional: bool):
        super().__init__()
        self.attention_prenorm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.gru = nn.GRU(width, 2 * width, bidirectional=bidirectional)
        self.gru_projection = nn.Linear(2 * width * (2 if bidirectional else 1), width)
        self.gru_norm = nn.LayerNorm(width)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Multi-head self-attention without materialised weights."""
        steps, batch, width = x.shape
        attention = self.attention
        heads = attention.num_heads
        projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        # (L, N, 3 * width) -> 3 of (N, heads, L, width / heads)
        projected = projected.view(steps, batch, 3, heads, width // heads)
        query, key, value = projected.permute(2, 1, 3, 0, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return attention.out_proj(attended.permute(2, 0, 1, 3).reshape(steps, batch, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attention_norm(x + self.attend(self.attention_prenorm(x)))
        recurrent = F.relu(self.gru(x)[0])
        return self.gru_norm(x + self.gru_projection(recurrent))


class DualPath(nn.Module):
    """Blocks of a frequency path and a time path side by side, at half the channels.

    Shape:
        (B, C, T, F) to a list of (B, C, T, F): the features of every block when ``all_blocks``,
        else of the last one only.
    """

    def __init__(self, channels: int, blocks: int, heads: int):
        super().__init__()
        width = channels // 2
        self.input = PointwiseLayer(channels, width, activate_first=False)
        self.frequency = nn.ModuleList(SequencePath(width, heads, True) for _ in range(blocks))
        self.time = nn.ModuleList(SequencePath(width, heads, False) for _ in range(blocks))
        self.frequency_norm = nn.ModuleList(_global_norm(width) for _ in range(blocks))
        self.time_norm = nn.ModuleList(_global_norm(width) for _ in range(blocks))
        self.frequency_scale = nn.Parameter(torch.ones(1))
        self.time_scale = nn.Parameter(torch.ones(1))
        self.output = PointwiseLayer(width, channels, activate_first=True)

    def forward(self, x: torch.Tensor, all_blocks: bool) -> list[torch.Tensor]:
        x = self.input(x)
        batch, width, frames, bins = x.shape
        features = []
        for n, (frequency, time) in enumerate(zip(self.frequency, self.time, strict=True)):
            # (B, W, T, F) -> (F, B * T, W) -> (B, W, F, T) as a view of channels-last memory
            rows = x.permute(3, 0, 2, 1).reshape(bins, batch * frames, width)
            rows = frequency(rows).view(bins, batch, frames, width).permute(1, 3, 2, 0)
            # (B, W, T, F) -> (T, B * F, W) -> (B, W, T, F)
            columns = x.permute(2, 0, 3, 1).reshape(frames, batch * bins, width)
            columns = time(columns).view(frames, batch, bins, width).permute(1, 3, 0, 2)
            x = (
                x
                + self.frequency_scale * self.frequency_norm[n](rows)
                + self.time_scale * self.time_norm[n](columns)
            )
            if all_blocks or n == len(self.frequency) - 1:
                features.append(self.output(x))
        return features


def _global_norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(1, width, eps=1e-8)


class DPDCRNSeparator(AbsSeparator):
    """Dual-path dilated convolutional recurrent network with a complex ratio mask.

    Two strided convolutions and a dilated dense block encode the spectrum, dual-path blocks
    (self-attention and GRU along frequency and along time) transform it, a mirrored decoder yields
    a polar mask, bounded by tanh in magnitude. There are no skip connections. Not causal: attention
    over time and the norms see the whole utterance.

    Args:
        input_dim: Frequency bins F of the spectrum; odd, as a one-sided spectrum has.
        num_spk: Number of outputs; enhancement has one.
        channels: Width C of encoder and decoder, a multiple of ``2 * heads``.
        blocks: Dual-path blocks in the bottleneck.
        dense_depth: Layers of each dense block; the last has dilation ``2 ** (dense_depth - 1)``.
        heads: Attention heads.
        microphones: Channels M of the mixture.
        ref_channel: The channel that is masked and that the loss compares with.

    Raises:
        ValueError: When a size does not fit the others.

    Examples:
        >>> separator = DPDCRNSeparator(257, channels=16, blocks=1)
        >>> mixture = torch.randn(2, 10, 257, dtype=torch.complex64)
        >>> (estimate,), _, others = separator(mixture, torch.tensor([10, 10]))
        >>> estimate.shape
        torch.Size([2, 10, 257])

    References:
        The backbone of I2SRF-TFCKD, arXiv 2506.13127; its teacher has 128 channels and 4 blocks,
        its student 64 and 1.
    """

    def __init__(
        self,
        input_dim: int,
        num_spk: int = 1,
        channels: int = 64,
        blocks: int = 1,
        dense_depth: int = 4,
        heads: int = 4,
        microphones: int = 1,
        ref_channel: int = 0,
    ):
        super().__init__()
        _check_sizes(input_dim, num_spk, channels, heads, microphones, ref_channel)
        self._num_spk = num_spk
        self.microphones = microphones
        self.ref_channel = ref_channel
        kernel, stride = (1, 3), (1, 2)
        self.encoder = nn.ModuleList(
            [
                ConvLayer(
                    channels,
                    conv=nn.Conv2d(2 * microphones, channels, kernel, stride, padding=(0, 1)),
                ),
                ConvLayer(channels, conv=nn.Conv2d(channels, channels, kernel, stride)),
                DenseBlock(channels, dense_depth),
            ]
        )
        self.dual_path = DualPath(channels, blocks, heads)
        output = nn.Module()
        output.deconv = nn.ConvTranspose2d(channels, 2, kernel, stride)
        self.decoder = nn.ModuleList(
            [
                DenseBlock(channels, dense_depth),
                ConvLayer(channels, deconv=nn.ConvTranspose2d(channels, channels, kernel, stride)),
                output,
            ]
        )

    @property
    def num_spk(self) -> int:
        return self._num_spk

    def forward(
        self,
        input: torch.Tensor,
        ilens: torch.Tensor,
        additional: dict | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor, dict]:
        """Enhance a batch of spectra.

        Args:
            input: Complex spectrum of the mixture, (B, T, F) or (B, T, M, F).
            ilens: Frames of each utterance, (B,).
            additional: ``{"feature_sets": True}`` asks for the features of every layer.

        Returns:
            ``[estimate]`` with the complex estimate (B, T, F), ``ilens``, and a dictionary with the
            complex mask ``mask_spk1`` (B, T, F) and, where asked for, ``feature_sets``:
            ``{"encoder": [...], "bottleneck": [...], "decoder": [...]}``, each (B, C, T, F').

        Raises:
            ValueError: When the mixture has another number of channels than ``microphones``.
        """
        mixture = torch.complex(input.real, input.imag)  # ESPnet may hand over a ComplexTensor
        if mixture.dim() == 3:
            mixture = mixture.unsqueeze(2)
        if mixture.shape[2] != self.microphones:
            raise ValueError(
                f"the mixture has {mixture.shape[2]} channel(s) but the network was built for "
                f"{self.microphones}: set separator_conf.microphones to match the data"
            )
        mixture = mixture.transpose(1, 2)  # (B, M, T, F)
        x = torch.cat([mixture.real, mixture.imag], dim=1)
        want_features = bool(additional and additional.get("feature_sets"))

        encoder = []
        for layer in self.encoder:
            x = layer(x)
            encoder.append(x)
        bottleneck = self.dual_path(x, all_blocks=want_features)
        decoder = [self.decoder[0](bottleneck[-1])]
        decoder.append(self.decoder[1](decoder[-1]))
        decoder.append(self.decoder[2].deconv(decoder[-1])[..., : mixture.shape[-1]])

        mask = torch.complex(decoder[-1][:, 0].float(), decoder[-1][:, 1].float())
        mask = torch.polar(torch.tanh(mask.abs()), mask.angle())
        others = {"mask_spk1": mask}
        if want_features:
            others["feature_sets"] = {
                "encoder": encoder,
                "bottleneck": bottleneck,
                "decoder": decoder,
            }
        return [mask * _floored(mixture[:, self.ref_channel])], ilens, others


def _floored(spectrum: torch.Tensor) -> torch.Tensor:
    """The spectrum with magnitude sqrt(|X|^2 + 1e-8), so that silent bins have a phase too."""
    magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-8)
    return torch.polar(magnitude, spectrum.angle())


def _check_sizes(input_dim, num_spk, channels, heads, microphones, ref_channel) -> None:
    if num_spk != 1:
        raise ValueError(f"DPDCRN enhances one speaker, num_spk must be 1, not {num_spk}")
    if input_dim % 2 == 0 or input_dim < 7:
        raise ValueError(f"input_dim must be odd (n_fft / 2 + 1) and at least 7, not {input_dim}")
    if channels % (2 * heads):
        raise ValueError(f"channels ({channels}) must be a multiple of 2 * heads ({2 * heads})")
    if not 0 <= ref_channel < microphones:
        raise ValueError(
            f"ref_channel {ref_channel} is not among the {microphones} microphone channel(s)"
        )
