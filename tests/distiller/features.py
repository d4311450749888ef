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
    """Features of the given sizes, with gradient."""
    generator = torch.Generator().manual_seed(seed)

    def feature(channels, bins):
        shape = (batch, channels, frames, bins)
        return torch.randn(shape, generator=generator).requires_grad_()

    return DistillInputs(
        {name: [feature(*size) for size in layers] for name, layers in sizes.items()},
        torch.zeros(batch, frames, 17, dtype=torch.complex64),
        torch.zeros(batch, frames * 16),
    )


def all_features(inputs: DistillInputs) -> list[torch.Tensor]:
    return [x for layers in inputs.feature_sets.values() for x in layers]
