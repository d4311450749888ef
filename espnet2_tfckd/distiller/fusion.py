"""Recursive fusion: one representative for a set of layers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.distiller.abs_distiller import FeatureShapes
from espnet2_tfckd.functional import prelu, prelu_backward, widened


class _GatedMerge(torch.autograd.Function):
    """a * prelu(x) + b * y with gates [a, b] = sigmoid(weight @ [prelu(x), y] + bias).

    It is written out so that only the two inputs of each merge are kept for the backward pass. It
    works utterance by utterance so that a map stays in the cache between operations.

    Shape:
        x, y: (B, C, N); slope: (1,); weight: (2, 2C); bias: (2,). Returns (B, C, N).
    """

    @staticmethod
    def forward(ctx, x, y, slope, weight, bias):
        ctx.save_for_backward(x, y, slope, weight, bias)
        merged = torch.empty_like(y)
        for n in range(len(x)):
            activated = F.prelu(x[n : n + 1], slope)[0]
            gates = _gates(activated, y[n], weight, bias)
            torch.mul(activated, gates[0], out=merged[n]).addcmul_(y[n], gates[1])
        return merged

    @staticmethod
    def backward(ctx, grad):
        x, y, slope, weight, bias = ctx.saved_tensors
        for_x, for_y = weight.chunk(2, dim=1)
        grad_x, grad_y = torch.empty_like(x), torch.empty_like(y)
        grad_slope, grad_weight, grad_bias = map(torch.zeros_like, (slope, weight, bias))
        for n in range(len(x)):
            activated = F.prelu(x[n : n + 1], slope)[0]
            gates = _gates(activated, y[n], weight, bias)
            grad_gates = torch.stack([(grad[n] * z).sum(0) for z in (activated, y[n])])
            grad_logits = torch.ops.aten.sigmoid_backward(grad_gates, gates)
            torch.mm(for_y.t(), grad_logits, out=grad_y[n]).addcmul_(grad[n], gates[1])
            grad_activated = torch.mm(for_x.t(), grad_logits).addcmul_(grad[n], gates[0])
            grad_x[n], from_slope = prelu_backward(grad_activated, x[n], slope)
            grad_slope += from_slope
            grad_weight += torch.cat([grad_logits @ activated.t(), grad_logits @ y[n].t()], 1)
            grad_bias += grad_logits.sum(1)
        return grad_x, grad_y, grad_slope, grad_weight, grad_bias


def _gates(x, y, weight, bias):
    for_x, for_y = weight.chunk(2, dim=1)
    return torch.addmm(bias.unsqueeze(1), for_x, x).addmm_(for_y, y).sigmoid_()


class ProjectLayer(nn.Module):
    """Bias-free convolution, instance norm, single-slope PReLU."""

    def __init__(self, in_channels: int, channels: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.InstanceNorm2d(channels, affine=True)
        self.prelu = nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm = self.norm
        x = F.group_norm(self.conv(x), norm.num_features, norm.weight, norm.bias, norm.eps)
        return prelu(x, self.prelu.weight)

    def normalised(self, x: torch.Tensor, bins: torch.Tensor | None) -> torch.Tensor:
        """A 1x1 convolution and its norm, before the PReLU, computed at some of the bins only.

        The norm's statistics over all bins follow from the covariance of the input channels, which
        folds the norm into the convolution.

        Shape:
            (B, C_in, T, F) and (K,) to (B, C, T * K); all F bins where ``bins`` is None.
        """
        weight = self.conv.weight.flatten(1)
        flat = x.flatten(2)
        centred = flat - flat.mean(2, keepdim=True)
        covariance = centred @ centred.transpose(1, 2) / centred.shape[2]
        variance = torch.einsum("mc,bcd,md->bm", weight, covariance, weight)
        scale = self.norm.weight * torch.rsqrt(variance.clamp_min(0) + self.norm.eps)
        if bins is not None:
            centred = centred.view(x.shape)[..., bins].flatten(2)
        bias = self.norm.bias.view(1, -1, 1)
        return torch.baddbmm(bias, scale.unsqueeze(2) * weight, centred)


class FusionStep(nn.Module):
    """Projection of one layer, and the gate that merges it with what was fused before."""

    def __init__(self, channels: int, mid_channels: int, first: bool):
        super().__init__()
        self.project = ProjectLayer(channels, mid_channels, kernel=1)
        if not first:
            self.gate = nn.Module()
            self.gate.conv = nn.Conv2d(2 * mid_channels, 2, 1)

    def forward(
        self, x: torch.Tensor, fused: torch.Tensor | None, bins: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, C, T, F) and (B, mid, T * K) to (B, mid, T * K), K of the F bins being kept."""
        projected = self.project.normalised(widened(x), bins)
        slope = self.project.prelu.weight
        if fused is None:
            return prelu(projected, slope)
        gate = self.gate.conv
        return _GatedMerge.apply(projected, fused, slope, gate.weight.flatten(1), gate.bias)


class RecursiveFusion(nn.Module):
    """Folds the layers of a set, one after the other, into one representative.

    At each step the fused map is resized in frequency (nearest bin) to the next layer. A learnt
    gate merges it with that layer's projection. Only bins that survive all later resizings reach
    the representative, so only those are computed.

    Args:
        channels: Channels of each layer, in recursion order.
        mid_channels: Width in which layers are merged.

    Shape:
        List of (B, C_j, T, F_j) to (B, C_last, T, F_last).

    References:
        arXiv 2506.13127, "residual recursive fusion"; the gates are those of ReviewKD's ABF,
        arXiv 2104.09044. The published code also has an output convolution for every earlier step,
        whose output is not used; it is left out.
    """

    def __init__(self, channels: list[int], mid_channels: int = 128):
        super().__init__()
        self.steps = nn.ModuleList(
            FusionStep(width, mid_channels, first=j == 0) for j, width in enumerate(channels)
        )
        self.output = ProjectLayer(mid_channels, channels[-1], kernel=3)

    def forward(self, layers: list[torch.Tensor]) -> torch.Tensor:
        bins = surviving_bins([x.shape[-1] for x in layers], layers[0].device)
        fused = None
        for step, x, kept in zip(self.steps, layers, bins, strict=True):
            fused = step(x, fused, kept)
        return self.output(fused.unflatten(2, layers[-1].shape[2:]))


class CascadeFusion(nn.Module):
    """Folds student layers one after the other, with an output at every layer.

    Like :class:`RecursiveFusion`, but each step has its own output, which should resemble a teacher
    layer.

    Args:
        pairs: ((C, F), (C, F)) of student and teacher layer by name, in the order of folding.
        mid_channels: Width in which layers are merged.

    Shape:
        By name, in the same order, (B, C, T, F) of student and teacher; returns the same with the
        fused map, (B, C of the teacher, T, F of the student), in the student's place.

    References:
        ReviewKD, arXiv 2104.09044, attention-based fusion (ABF). Instance norm and PReLU take the
        place of batch norm, as in the speech enhancement works that use it (CLSKD, RFPKD).
    """

    def __init__(
        self, pairs: dict[str, tuple[tuple[int, int], tuple[int, int]]], mid_channels: int
    ):
        super().__init__()
        student, teacher = zip(*pairs.values(), strict=True)
        self.steps = nn.ModuleList(
            FusionStep(width, mid_channels, first=j == 0) for j, (width, _) in enumerate(student)
        )
        self.outputs = nn.ModuleList(
            ProjectLayer(mid_channels, width, kernel=3) for width, _ in teacher
        )

    def forward(
        self, pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        fused, outcome = None, {}
        for (name, (own, target)), step, output in zip(
            pairs.items(), self.steps, self.outputs, strict=True
        ):
            shape = own.shape[2:]
            if fused is not None and fused.shape[2:] != shape:
                fused = F.interpolate(fused, shape, mode="nearest")
            merged = step(own, None if fused is None else fused.flatten(2), None)
            fused = merged.unflatten(2, shape)
            outcome[name] = (output(fused), target)
        return outcome


def widest_layer(shapes: FeatureShapes) -> int:
    """Channels of the widest layer of any set: the width in which layers are fused by default."""
    return max(channels for layers in shapes.values() for channels, _ in layers)


def surviving_bins(sizes: list[int], device: torch.device) -> list[torch.Tensor | None]:
    """Bins of each layer that nearest-neighbour resizing from layer to layer carries to the last.

    Args:
        sizes: Frequency bins of each layer, in recursion order.
        device: Where the indices are used.

    Returns:
        Indices (F_last,) for each layer; None where they are all of the layer's bins in order.

    Examples:
        >>> surviving_bins([5, 5, 2], torch.device("cpu"))
        [tensor([0, 2]), tensor([0, 2]), None]
    """
    kept = [list(range(sizes[-1]))]
    for size, following in zip(sizes[-2::-1], sizes[:0:-1], strict=True):
        kept.insert(0, [index * size // following for index in kept[0]])
    return [
        None if indices == list(range(size)) else torch.tensor(indices, device=device)
        for indices, size in zip(kept, sizes, strict=True)
    ]
