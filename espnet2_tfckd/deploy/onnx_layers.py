"""Layers of a DPDCRN for one frame at a time, and what the caller keeps between frames for them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from espnet2_tfckd.separator.convolution import ConvLayer, DenseBlock
from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator
from espnet2_tfckd.separator.normalization import BatchNorm, FeatureNorm


@torch.no_grad()
def folded(separator: DPDCRNSeparator) -> DPDCRNSeparator:
    """A copy of a trained network whose batch norms are part of the layers before them.

    In encoder and decoder these are convolutions; in the dual-path blocks, the layer norm that ends
    a path. Other norms stay.
    """
    separator = copy.deepcopy(separator).eval()
    for layer in separator.modules():
        if isinstance(layer, ConvLayer) and isinstance(layer.norm, BatchNorm):
            conv = layer.get_submodule(layer.conv_name)
            transposed = isinstance(conv, nn.ConvTranspose2d)
            setattr(layer, layer.conv_name, fuse_conv_bn_eval(conv, layer.norm, transposed))
            layer.norm = nn.Identity()
    dual_path = separator.dual_path
    for paths, norms in (
        (dual_path.frequency, dual_path.frequency_norm),
        (dual_path.time, dual_path.time_norm),
    ):
        for number, (path, norm) in enumerate(zip(paths, norms, strict=True)):
            if isinstance(norm, BatchNorm):
                scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
                path.gru_norm.weight *= scale
                path.gru_norm.bias.sub_(norm.running_mean).mul_(scale).add_(norm.bias)
                norms[number] = nn.Identity()
    return separator


class Memory:
    """What a network takes besides the mixture, and what becomes of its outputs.

    Attributes:
        inputs: Shapes of the inputs by name.
        states: Inputs that the outputs ``next_<name>`` become in the next frame.
        history: Outputs of which the caller keeps the last frames, and the inputs that read them.
        attention: Outputs that take the place of the oldest frame in an input.
        norms: Groups of each cumulative norm, in the order of the layers.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, list[int]] = {}
        self.states: list[dict] = []
        self.history: list[dict] = []
        self.attention: list[dict] = []
        self.norms: list[int] = []

    def remember(self, name: str, shape: list[int]) -> None:
        """Add a state."""
        self.inputs[name] = shape
        self.states.append({"name": name, "shape": shape})


class Statistics:
    """Averages over the frames so far, of all cumulative norms at once.

    As in :class:`FeatureNorm`, the rounding error of each sum is kept and corrected later.
    """

    def __init__(self, given: dict[str, torch.Tensor], groups: list[int]):
        self.news: list[torch.Tensor] = []
        if not groups:
            return
        self.inverse, self.averages = given["inverse_count"], given["averages"]
        self.excesses = given["excesses"]
        before = self.averages - self.averages * self.inverse - self.excesses
        self._before: Iterator[torch.Tensor] = iter(before.split([2 * n for n in groups], 1))

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Averages with this frame's values, (1, N, 1, 1), of the next norm in their order."""
        self.news.append(values)
        return values * self.inverse + next(self._before)

    def after(self) -> dict[str, torch.Tensor]:
        """The states for the next frame."""
        if not self.news:
            return {}
        step = (torch.cat(self.news, 1) - self.averages) * self.inverse - self.excesses
        averages = self.averages + step
        return {"next_averages": averages, "next_excesses": (averages - self.averages) - step}


class Norm(nn.Module):
    """A norm, as one scale and one shift: x * scale + shift.

    Args:
        norm: The norm; the identity if :func:`folded` made it part of another layer.
        memory: Told about it.
        factor: Of its output.

    Shape:
        (1, C, 1, F), or (F, C) of a norm with one group, to the same.
    """

    def __init__(self, norm: FeatureNorm | nn.Identity, memory: Memory, factor: float = 1.0):
        super().__init__()
        self.factor, self.is_folded = factor, isinstance(norm, nn.Identity)
        if self.is_folded:
            return
        self.groups, self.eps = norm.groups, norm.eps
        self.is_cumulative = norm.scope == "cumulative"
        if self.is_cumulative:
            memory.norms.append(norm.groups)
        shape = (1, -1, 1, 1) if norm.groups > 1 else (1, -1)
        self.register_buffer("weight", (factor * norm.weight).view(shape))
        self.register_buffer("bias", (factor * norm.bias).view(shape))

    def forward(self, x: torch.Tensor, statistics: Statistics) -> torch.Tensor:
        if self.is_folded:
            return x if self.factor == 1 else self.factor * x
        axes = 3 if self.groups > 1 else (0, 1)
        mean = x.mean(axes, keepdim=True)
        if self.is_cumulative:
            values = torch.cat([mean, x.square().mean(axes, keepdim=True)], 1)
            if self.groups == 1:
                values = values.view(1, 2, 1, 1)
            averages = statistics.of(values)
            if self.groups == 1:
                averages = averages.view(1, 2)
            mean, power = averages.split(self.groups, 1)
            variance = F.relu(power - mean * mean)
        else:
            variance = (x - mean).square().mean(axes, keepdim=True)
        scale = self.weight / (variance + self.eps).sqrt()
        return x * scale + (self.bias - mean * scale)


class PReLU(nn.Module):
    """max(x, slope * x), as long as no slope is above 1."""

    def __init__(self, slope: torch.Tensor, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("slope", slope.detach().clone().view(shape))
        self.is_maximum = bool((slope <= 1).all())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.is_maximum:
            return torch.maximum(x, self.slope * x)
        return F.relu(x) - self.slope * F.relu(-x)


class Upsampling(nn.Module):
    """A transposed convolution of 3 taps and stride 2 along frequency, (1, C, 1, F) to F' bins.

    Bin 2k of its output is made of bins k - 1 and k of its input, bin 2k + 1 of bin k alone. The
    first F' of its 2F + 1 bins are given.
    """

    def __init__(self, deconv: nn.ConvTranspose2d, wanted: int):
        super().__init__()
        self.wanted = wanted
        first, second, third = deconv.weight.detach()[:, :, 0].transpose(0, 1).unbind(2)
        even = torch.stack([third, first], 2)
        odd = torch.stack([torch.zeros_like(second), second], 2)
        kernel = torch.stack([even, odd], 1)  # (C, 2, C_in, 2)
        self.channels = len(first)
        self.register_buffer("kernel", kernel.flatten(0, 1).unsqueeze(2).clone())
        self.register_buffer("bias", deconv.bias.detach().repeat_interleave(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bins = x.shape[3] + 1
        pairs = F.conv2d(x, self.kernel, self.bias, padding=(0, 1))
        pairs = pairs.view(1, self.channels, 2, bins).transpose(2, 3)
        return pairs.reshape(1, self.channels, 1, 2 * bins)[..., : self.wanted]


class Layer(nn.Module):
    """A (transposed) convolution along frequency, norm and PReLU, (1, C, 1, F) to F' bins."""

    def __init__(self, layer: ConvLayer, bins: int, memory: Memory):
        super().__init__()
        conv = layer.get_submodule(layer.conv_name)
        self.conv = Upsampling(conv, bins) if isinstance(conv, nn.ConvTranspose2d) else conv
        self.norm = Norm(layer.norm, memory)
        self.prelu = PReLU(layer.prelu.weight, (1, -1, 1, 1))

    def forward(self, x: torch.Tensor, statistics: Statistics) -> torch.Tensor:
        return self.prelu(self.norm(self.conv(x), statistics))


class Dense(nn.Module):
    """A dense block; the caller keeps its layers' inputs, (1, depth * C, 1, F), newest first."""

    def __init__(self, block: DenseBlock, name: str, bins: int, memory: Memory):
        super().__init__()
        self.name, reads = name, []
        self.norms, self.activations = nn.ModuleList(), nn.ModuleList()
        for number, layer in enumerate(block.dense):
            then, now = layer.conv.weight.detach().unbind(2)
            self.register_buffer(f"kernel{number}", torch.cat([now, then], 1).unsqueeze(2))
            self.register_buffer(f"bias{number}", layer.conv.bias.detach())
            self.norms.append(Norm(layer.norm, memory))
            self.activations.append(PReLU(layer.prelu.weight, (1, -1, 1, 1)))
            shape = [1, layer.conv.in_channels, 1, bins]
            read = {"name": f"{name}_past{number}", "frames_ago": layer.conv.dilation[0]}
            reads.append({**read, "shape": shape})
            memory.inputs[read["name"]] = shape
        memory.history.append({"name": f"{name}_features", "shape": shape, "reads": reads})

    def forward(
        self, x: torch.Tensor, given: dict, kept: dict, statistics: Statistics
    ) -> torch.Tensor:
        inputs: list[torch.Tensor] = []
        for number, (norm, activation) in enumerate(zip(self.norms, self.activations, strict=True)):
            inputs.insert(0, x)
            features = torch.cat([*inputs, given[f"{self.name}_past{number}"]], 1)
            kernel, bias = self.get_buffer(f"kernel{number}"), self.get_buffer(f"bias{number}")
            x = activation(norm(F.conv2d(features, kernel, bias, padding=(0, 1)), statistics))
        kept[f"{self.name}_features"] = torch.cat(inputs, 1)
        return x
