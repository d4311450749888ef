"""Dual-path blocks: attention and recurrence along frequency and along time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.separator.convolution import PointwiseLayer
from espnet2_tfckd.separator.normalization import global_norm
from espnet2_tfckd.separator.stream import Stream


class SequencePath(nn.Module):
    """Self-attention, then a GRU, along one axis; each with a residual and layer norm.

    Args:
        width: Width of the sequences.
        heads: Attention heads.
        bidirectional: Whether the GRU runs both ways.
        window: Steps that attention sees: None for all; W for a step itself and the W - 1 before
            it; 0 for no attention.

    Shape:
        (L, N, width) to (L, N, width): L steps of N independent sequences.
    """

    def __init__(self, width: int, heads: int, bidirectional: bool, window: int | None = None):
        super().__init__()
        self.window = window
        if window != 0:
            self.attention_prenorm = nn.LayerNorm(width)
            self.attention = nn.MultiheadAttention(width, heads)
            self.attention_norm = nn.LayerNorm(width)
        self.gru = nn.GRU(width, 2 * width, bidirectional=bidirectional)
        self.gru_projection = nn.Linear(2 * width * (2 if bidirectional else 1), width)
        self.gru_norm = nn.LayerNorm(width)

    def attend(self, x: torch.Tensor, stream: Stream | None) -> torch.Tensor:
        """Multi-head self-attention without materialised weights."""
        steps, batch, width = x.shape
        attention = self.attention
        heads = attention.num_heads
        projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        # (L, N, 3 * width) -> 3 of (N, heads, L, width / heads)
        projected = projected.view(steps, batch, 3, heads, width // heads)
        query, key, value = projected.permute(2, 1, 3, 0, 4)
        mask = None
        if self.window is not None:
            key, value, mask = self._window_of(key, value, stream)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attention.out_proj(attended.permute(2, 0, 1, 3).reshape(steps, batch, width))

    def _window_of(self, key: torch.Tensor, value: torch.Tensor, stream: Stream):
        """Keys and values, with those of earlier chunks, and the mask of what each step sees."""
        past, steps = self.window - 1, key.shape[2]
        at_start, seen = stream.at_start, stream.take()
        if seen is None:
            seen = key.new_zeros(1)
        stream.put(seen + steps)
        keys, values = stream.with_past(key, past), stream.with_past(value, past)
        query_at = torch.arange(steps, device=key.device).view(-1, 1)
        if at_start:  # only zeros came before
            behind = query_at - query_at.view(1, -1)
            return key, value, (behind >= 0) & (behind < self.window)
        key_at = torch.arange(-past, steps, device=key.device)
        behind = query_at - key_at
        return keys, values, (behind >= 0) & (behind < self.window) & (key_at >= -seen)

    def forward(self, x: torch.Tensor, stream: Stream | None = None) -> torch.Tensor:
        """``stream`` holds the states of a path along time that looks back only."""
        if self.window != 0:
            x = self.attention_norm(x + self.attend(self.attention_prenorm(x), stream))
        if stream is None:
            recurrent, _ = self.gru(x)
        else:
            recurrent, state = self.gru(x, stream.take())
            stream.put(state)
        return self.gru_norm(x + self.gru_projection(F.relu(recurrent)))


class DualPath(nn.Module):
    """Blocks of a frequency path and a time path side by side, at half the channels.

    Args:
        channels: Channels C.
        blocks: Number of blocks.
        heads: Attention heads.
        window: Frames that attention over time sees, see :class:`SequencePath`.
        scope: Scope of the norms, see :class:`FeatureNorm`.

    Shape:
        (B, C, T, F) to a list of (B, C, T, F): the features of every block when ``all_blocks``,
        else of the last one only.
    """

    def __init__(self, channels: int, blocks: int, heads: int, window: int | None, scope: str):
        super().__init__()
        width = channels // 2
        self.input = PointwiseLayer(channels, width, activate_first=False)
        self.frequency = nn.ModuleList(SequencePath(width, heads, True) for _ in range(blocks))
        self.time = nn.ModuleList(SequencePath(width, heads, False, window) for _ in range(blocks))
        self.frequency_norm = nn.ModuleList(global_norm(width, scope) for _ in range(blocks))
        self.time_norm = nn.ModuleList(global_norm(width, scope) for _ in range(blocks))
        self.frequency_scale = nn.Parameter(torch.ones(1))
        self.time_scale = nn.Parameter(torch.ones(1))
        self.output = PointwiseLayer(width, channels, activate_first=True)

    def forward(self, x: torch.Tensor, stream: Stream, all_blocks: bool) -> list[torch.Tensor]:
        x = self.input(x)
        batch, width, frames, bins = x.shape
        features = []
        for n, (frequency, time) in enumerate(zip(self.frequency, self.time, strict=True)):
            # (B, W, T, F) -> (F, B * T, W) -> (B, W, F, T) as a view of channels-last memory
            rows = x.permute(3, 0, 2, 1).reshape(bins, batch * frames, width)
            rows = frequency(rows).view(bins, batch, frames, width).permute(1, 3, 2, 0)
            # (B, W, T, F) -> (T, B * F, W) -> (B, W, T, F)
            columns = x.permute(2, 0, 3, 1).reshape(frames, batch * bins, width)
            columns = time(columns, stream).view(frames, batch, bins, width).permute(1, 3, 0, 2)
            x = (
                x
                + self.frequency_scale * self.frequency_norm[n](rows, stream)
                + self.time_scale * self.time_norm[n](columns, stream)
            )
            if all_blocks or n == len(self.frequency) - 1:
                features.append(self.output(x))
        return features
