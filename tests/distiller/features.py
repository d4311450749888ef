"""Random feature sets for the tests of distillers."""

from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import DistillInputs


def shapes(channels: int, blocks: int, bins: int = 17) -> dict[str, list[tuple[int, int]]]:
    """(C, F) of each layer of a DPDCRN on spectra of ``bins`` bins."""
    wide, narrow = (bins + 1) // 2, (bins - 1) // 4
    return {
        "encoder": [(channels, wide), (channels, narrow), (channels, narrow)],
        "bottleneck": [(channels, narrow)] * blocks,
        "decoder": [(channels, narrow), (channels, wide), (2, bins)],
    }


def random_inputs(sizes, batch: int, frames: int, seed: int) -> DistillInputs:
    """Features of the given sizes and an estimate, with gradient; one reference for all seeds."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, dtype=torch.float32):
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    bins = sizes["decoder"][-1][1]
    reference = torch.Generator().manual_seed(0)
    return DistillInputs(
        {
            name: [draw(batch, channels, frames, width) for channels, width in layers]
            for name, layers in sizes.items()
        },
        draw(batch, frames, bins, dtype=torch.complex64),
        draw(batch, frames * bins),
        torch.randn(batch, frames, bins, generator=reference, dtype=torch.complex64),
    )


def all_features(inputs: DistillInputs) -> list[torch.Tensor]:
    return [x for layers in inputs.feature_sets.values() for x in layers]


def all_outputs(inputs: DistillInputs) -> list[torch.Tensor]:
    """Whatever a distiller may take a gradient to."""
    return [*all_features(inputs), inputs.spectrum, inputs.waveform]


def mapped(inputs: DistillInputs, function) -> DistillInputs:
    """New leaves made of each tensor of the inputs but the reference, with gradient."""

    def leaf(x):
        return function(x.detach()).requires_grad_()

    return DistillInputs(
        {name: [leaf(x) for x in layers] for name, layers in inputs.feature_sets.items()},
        leaf(inputs.spectrum),
        leaf(inputs.waveform),
        inputs.reference,
    )


def single_pair(own: torch.Tensor, target: torch.Tensor) -> tuple[DistillInputs, DistillInputs]:
    """Student and teacher each of whose sets has one layer, the same in all three."""
    return tuple(
        DistillInputs(
            {name: [x] for name in ("encoder", "bottleneck", "decoder")},
            torch.zeros(1, 1, 1, dtype=torch.complex64),
            torch.zeros(1, 1),
        )
        for x in (own, target)
    )


def single_shapes(*tensors: torch.Tensor) -> tuple[dict, dict]:
    """Shapes of :func:`single_pair`'s features, by set."""
    return tuple(
        {name: [(x.shape[1], x.shape[3])] for name in ("encoder", "bottleneck", "decoder")}
        for x in tensors
    )
