from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import Sizes
from espnet2_tfckd.distiller.sp import SimilarityPreservingDistiller
from tests.distiller.features import single_pair


def loss(own, target):
    return SimilarityPreservingDistiller(Sizes({}, {}, 1, 2))(*single_pair(own, target))[0]


def test_value_is_the_squared_distance_of_scaled_similarity_matrices():
    own = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(2, 2, 1, 1)
    target = torch.tensor([[2.0], [0.0]]).view(2, 1, 1, 1)
    # Gram matrices [[1, 1], [1, 2]] and [[4, 0], [0, 0]]
    rows = torch.tensor([[0.5**0.5, 0.5**0.5], [0.2**0.5, 0.8**0.5]])
    expected = (rows - torch.tensor([[1.0, 0.0], [0.0, 0.0]])).square().sum() / 4
    torch.testing.assert_close(loss(own, target), expected)


def test_shape_of_the_features_does_not_enter():
    own = torch.randn(3, 4, 2, 5)
    assert loss(own, own.reshape(3, 8, 5, 1)) < 1e-12
