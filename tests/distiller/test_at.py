from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import Sizes
from espnet2_tfckd.distiller.at import AttentionTransferDistiller
from tests.distiller.features import single_pair

# two channels over two frames of one bin, of two utterances
OWN = torch.tensor([[[1.0, 2.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 0.0]]]).unsqueeze(-1)
TARGET = torch.tensor([[[2.0, 0.0]], [[0.0, 7.0]]]).unsqueeze(-1)


def loss(own, target):
    return AttentionTransferDistiller(Sizes({}, {}, 2, 2))(*single_pair(own, target))[0]


def test_value_is_the_squared_distance_of_maps_of_length_one():
    # first: powers (2, 8) and (4, 0), directions (1, 4) / sqrt(17) and (1, 0); second: orthogonal
    first = 2 - 2 / 17**0.5
    torch.testing.assert_close(loss(OWN, TARGET), torch.tensor((first + 2) / 2))


def test_neither_scale_nor_sign_nor_number_of_channels_matters():
    twice = torch.cat([OWN, -OWN], 1)
    assert loss(twice, 3 * OWN) < 1e-12
