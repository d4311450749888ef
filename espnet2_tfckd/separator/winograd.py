"""Winograd's minimal filtering F(4, 3) along frequency, for wide convolutions on a CPU.

Four outputs of a 3-tap filter take 6 multiplications instead of 12. The features are transformed
once, and then any number of kernels is applied, with any dilation over time. The results agree with
a direct convolution up to float32 rounding.

References:
    S. Winograd, "Arithmetic Complexity of Computations", 1980; A. Lavin and S. Gray, "Fast
    Algorithms for Convolutional Neural Networks", arXiv 1509.09308.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

_TILE = 4  # outputs of a tile
_POINTS = 6  # inputs of a tile, and products

# Rows: the products of a tile. Columns: the taps of the kernel.
_KERNEL_TRANSFORM = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def transform_features(x: torch.Tensor) -> torch.Tensor:
    """Tiles of a feature map, padded by a bin on each side.

    Shape:
        (B, C, T, F) to (B, 6 * C, T, ceil(F / 4)).
    """
    tiles = -(-x.shape[3] // _TILE)
    padded = F.pad(x, (1, tiles * _TILE - x.shape[3] + 1))
    d = [padded[..., k : k + _TILE * (tiles - 1) + 1 : _TILE] for k in range(_POINTS)]
    far, near = d[4] - 4 * d[2], d[3] - 4 * d[1]
    wide, narrow = d[4] - d[2], 2 * (d[3] - d[1])
    products = [
        far + 4 * d[0] - d[2],
        far + near,
        far - near,
        wide + narrow,
        wide - narrow,
        4 * d[1] - 5 * d[3] + d[5],
    ]
    return torch.stack(products, 1).flatten(1, 2)


def convolve(features: torch.Tensor, kernel: torch.Tensor, dilation: int) -> torch.Tensor:
    """Convolve transformed features over time, and over frequency by products of tiles.

    Shape:
        (B, 6 * C, T + dilation, N) and kernel (O, C, 2, 3) to (B, 6 * O, T, N).
    """
    outputs, channels, taps, _ = kernel.shape
    transform = kernel.new_tensor(_KERNEL_TRANSFORM)
    products = torch.einsum("pf,oitf->poit", transform, kernel)
    products = products.reshape(_POINTS * outputs, channels, taps, 1)
    return F.conv2d(features, products, groups=_POINTS, dilation=(dilation, 1))


def transform_outputs(products: torch.Tensor, bins: int) -> torch.Tensor:
    """Transform tiles back to bins.

    Shape:
        (B, 6 * O, T, N) to (B, O, T, bins).
    """
    a, b, c, d, e, f = products.unflatten(1, (_POINTS, -1)).unbind(1)
    plus, minus, far_plus, far_minus = b + c, b - c, d + e, d - e
    tiles = [
        a + plus + far_plus,
        minus + 2 * far_minus,
        plus + 4 * far_plus,
        minus + 8 * far_minus + f,
    ]
    return torch.stack(tiles, -1).flatten(3)[..., :bins]
