"""A causal DPDCRN laid out for one frame at a time: the same values from a quarter of the nodes.

What costs time on a device is less the arithmetic of a frame than the number of nodes in the graph.
Hence this network does what :class:`DPDCRNSeparator` does, with its weights arranged anew:

- The features of earlier frames, which dilated convolutions look back on, stay with the caller. A
  layer of a dense block is one convolution over the features of now and of then.
- The averages of all norms are one vector, brought up to date at the end for all at once.
- Both paths of the bottleneck share the norm and the product that give queries, keys and values.
- Keys and values of earlier frames stay with the caller too, in any order.
- Transposed convolutions are convolutions that give even and odd bins, and the mask is applied
  without angles.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.deploy.onnx_layers import (
    Dense,
    Layer,
    Memory,
    Norm,
    PReLU,
    Statistics,
    Upsampling,
    folded,
)
from espnet2_tfckd.separator.convolution import PointwiseLayer
from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator
from espnet2_tfckd.separator.dual_path import DualPath

TINY = 1e-15  # a magnitude that stands for 0 where an angle is needed


class StreamingNetwork(nn.Module):
    """One frame of a causal DPDCRN, with everything that it remembers as inputs and outputs.

    Args:
        separator: The trained network, causal.
        bins: Frequency bins F of the spectrum.

    Attributes:
        inputs: Shapes of the inputs by name, ``mixture`` first.
        outputs: Names of the outputs, ``estimate`` first.
        memory: What the caller keeps between frames.

    Shape:
        ``mixture`` (1, 2M, 1, F), real parts of all channels, then imaginary parts; ``estimate``
        (1, 2, 1, F).
    """

    def __init__(self, separator: DPDCRNSeparator, bins: int):
        super().__init__()
        self.microphones, self.ref_channel = separator.microphones, separator.ref_channel
        self.memory = Memory()
        self.inputs = self.memory.inputs
        self.inputs["mixture"] = [1, 2 * separator.microphones, 1, bins]
        sizes = separator.bins_of(bins)
        separator = folded(separator)
        self.compressed = separator.compressed
        with torch.no_grad():
            encoder, decoder = separator.encoder, separator.decoder
            self.encoder = nn.ModuleList(
                Layer(layer, size, self.memory)
                for layer, size in zip(encoder[:-1], sizes[1:], strict=True)
            )
            self.encoder_dense = Dense(encoder[-1], "encoder", sizes[-1], self.memory)
            self.dual_path = _DualPath(separator.dual_path, sizes[-1], self.memory)
            self.decoder_dense = Dense(decoder[0], "decoder", sizes[-1], self.memory)
            self.decoder = nn.ModuleList(
                Layer(layer, size, self.memory)
                for layer, size in zip(decoder[1:-1], sizes[-2:0:-1], strict=True)
            )
            self.output = Upsampling(decoder[-1].deconv, bins)
        if self.memory.norms:
            size = [1, 2 * sum(self.memory.norms), 1, 1]
            self.memory.remember("averages", size)
            self.memory.remember("excesses", size)
            self.inputs["inverse_count"] = [1, 1, 1, 1]
        if self.memory.attention:
            past = separator.dual_path.time[0].window - 1
            self.inputs["attention_mask"] = [1, 1, past]
        with torch.no_grad():
            zeros = [torch.zeros(shape) for shape in self.inputs.values()]
            self.outputs = list(self._run(dict(zip(self.inputs, zeros, strict=True))))

    def description(self) -> dict:
        """What a caller needs to know, for ``meta.json``."""
        memory = self.memory
        kept = {"states": memory.states, "history": memory.history, "attention": memory.attention}
        return {"inputs": self.inputs, **kept}

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From the values of :attr:`inputs` to those of :attr:`outputs`, in their order."""
        return tuple(self._run(dict(zip(self.inputs, values, strict=True))).values())

    def _run(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        mixture, kept = given["mixture"], {}
        statistics = Statistics(given, self.memory.norms)
        x = self.compressed(mixture)
        for layer in self.encoder:
            x = layer(x, statistics)
        x = self.encoder_dense(x, given, kept, statistics)
        x = self.dual_path(x, given, kept, statistics)
        x = self.decoder_dense(x, given, kept, statistics)
        for layer in self.decoder:
            x = layer(x, statistics)
        mask = self.output(x)
        if self.microphones > 1:
            mixture = mixture[:, [self.ref_channel, self.microphones + self.ref_channel]]
        return {"estimate": masked(mixture, mask), **kept, **statistics.after()}


def masked(mixture: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Apply an unbounded mask, whose magnitude tanh bounds, to a spectrum with a floor.

    Shape:
        (B, 2, T, F) each: real and imaginary parts.
    """
    gain = (mask.square().sum(1, keepdim=True) + TINY**2).sqrt()
    real, imaginary = mixture.split(1, 1)
    real = real + TINY  # the angle of silence is 0
    power = real.square() + imaginary.square()
    level = torch.sqrt((power + 1e-8) / power) * torch.tanh(gain) / gain
    mask_real, mask_imaginary = (mask * level).split(1, 1)
    return torch.cat(
        [
            real * mask_real - imaginary * mask_imaginary,
            imaginary * mask_real + real * mask_imaginary,
        ],
        1,
    )


class _Pointwise(nn.Module):
    """A 1x1 convolution and PReLU in either order, (F, C_in) to (F, C)."""

    def __init__(self, layer: PointwiseLayer):
        super().__init__()
        self.activate_first = layer.activate_first
        self.register_buffer("weight", layer.conv.weight.detach().flatten(1))
        self.register_buffer("bias", layer.conv.bias.detach())
        self.prelu = PReLU(layer.prelu.weight, (1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.activate_first:
            return F.linear(self.prelu(x), self.weight, self.bias)
        return self.prelu(F.linear(x, self.weight, self.bias))


class _DualPath(nn.Module):
    """The bottleneck, (1, C, 1, F) to the same; inside, a row for each bin, (F, width)."""

    def __init__(self, dual_path: DualPath, bins: int, memory: Memory):
        super().__init__()
        self.input, self.output = _Pointwise(dual_path.input), _Pointwise(dual_path.output)
        self.blocks = nn.ModuleList(
            _Block(dual_path, number, bins, memory) for number in range(len(dual_path.time))
        )

    def forward(
        self, x: torch.Tensor, given: dict, kept: dict, statistics: Statistics
    ) -> torch.Tensor:
        _, channels, _, bins = x.shape
        x = self.input(x.view(channels, bins).transpose(0, 1))
        for block in self.blocks:
            x = block(x, given, kept, statistics)
        return self.output(x).transpose(0, 1).reshape(1, channels, 1, bins)


class _Block(nn.Module):
    """A frequency path and a time path side by side, (F, width) to the same."""

    def __init__(self, dual_path: DualPath, number: int, bins: int, memory: Memory):
        super().__init__()
        self.number, self.bins = number, bins
        self.frequency, self.time = dual_path.frequency[number], dual_path.time[number]
        attention = self.frequency.attention
        self.heads, width = attention.num_heads, attention.embed_dim
        self.size = width // self.heads
        self.sees_time = self.time.window != 0
        paths = [self.frequency, self.time] if self.sees_time else [self.frequency]
        weights, biases = zip(*map(_projection, paths), strict=True)
        self.register_buffer("weight", torch.cat(weights))
        self.register_buffer("bias", torch.cat(biases))
        self.register_buffer("start", torch.zeros(2, 1, 2 * width))
        self.frequency_norm = Norm(
            dual_path.frequency_norm[number], memory, dual_path.frequency_scale.item()
        )
        self.time_norm = Norm(dual_path.time_norm[number], memory, dual_path.time_scale.item())
        memory.remember(f"recurrent{number}", [1, bins, 2 * width])
        self.past = self.time.window - 1 if self.sees_time else 0
        if self.past:
            keys = [bins * self.heads, self.size, self.past]
            for name, shape, axis in (("key", keys, 2), ("value", [keys[0], *keys[:0:-1]], 1)):
                entry = {"name": f"{name}{number}", "input": f"{name}s{number}", "axis": axis}
                memory.attention.append({**entry, "shape": shape})
                memory.inputs[entry["input"]] = shape

    def forward(
        self, x: torch.Tensor, given: dict, kept: dict, statistics: Statistics
    ) -> torch.Tensor:
        width = x.shape[1]
        normalised = F.layer_norm(x, (width,), eps=self.frequency.attention_prenorm.eps)
        projected = F.linear(normalised, self.weight, self.bias).split(width, 1)
        rows = _attended(x, self._over_frequency(*projected[:3]), self.frequency)
        recurrent, _ = self.frequency.gru(rows.unsqueeze(1), self.start)
        rows = _recurred(rows, recurrent.squeeze(1), self.frequency)
        columns = x
        if self.sees_time:
            columns = _attended(x, self._over_time(*projected[3:], given, kept), self.time)
        name = f"recurrent{self.number}"
        recurrent, kept[f"next_{name}"] = self.time.gru(columns.unsqueeze(0), given[name])
        columns = _recurred(columns, recurrent.squeeze(0), self.time)
        return x + self.frequency_norm(rows, statistics) + self.time_norm(columns, statistics)

    def _over_frequency(self, query, key, value) -> torch.Tensor:
        """Attention of every bin to all bins of the frame, (F, width)."""
        if self.heads == 1:
            return torch.softmax(query @ key.transpose(0, 1), 1) @ value
        query, key, value = (
            x.view(self.bins, self.heads, self.size).transpose(0, 1) for x in (query, key, value)
        )
        attended = torch.softmax(query @ key.transpose(1, 2), 2) @ value
        return attended.transpose(0, 1).reshape(self.bins, -1)

    def _over_time(self, query, key, value, given: dict, kept: dict) -> torch.Tensor:
        """Attention of every bin to itself in this frame and in those that the caller keeps."""
        if not self.past:
            return value
        query, key, value = (x.reshape(-1, 1, self.size) for x in (query, key, value))
        kept[f"key{self.number}"] = key.transpose(1, 2)
        kept[f"value{self.number}"] = value
        scores = torch.cat(
            [
                query @ given[f"keys{self.number}"] + given["attention_mask"],
                (query * key).sum(2, keepdim=True),
            ],
            2,
        )
        past, now = torch.softmax(scores, 2).split([self.past, 1], 2)
        return (past @ given[f"values{self.number}"] + now * value).view(self.bins, -1)


def _projection(path: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias that give queries, keys and values of normalised rows.

    The scale and shift of the norm, and the scale of the scores, are in them.
    """
    attention, norm = path.attention, path.attention_prenorm
    weight, bias = attention.in_proj_weight.double(), attention.in_proj_bias.double()
    weight, bias = weight * norm.weight.double(), bias + weight @ norm.bias.double()
    scale = torch.ones(len(bias), dtype=torch.float64)
    scale[: attention.embed_dim] = (attention.embed_dim // attention.num_heads) ** -0.5
    return (weight * scale[:, None]).float(), (bias * scale).float()


def _attended(x: torch.Tensor, attended: torch.Tensor, path: nn.Module) -> torch.Tensor:
    return path.attention_norm(x + path.attention.out_proj(attended))


def _recurred(x: torch.Tensor, recurrent: torch.Tensor, path: nn.Module) -> torch.Tensor:
    return path.gru_norm(x + path.gru_projection(F.relu(recurrent)))
