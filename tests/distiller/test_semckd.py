from __future__ import annotations

import torch
from torch.nn import functional

from espnet2_tfckd.distiller.abs_distiller import Sizes
from espnet2_tfckd.distiller.semckd import SemCKDDistiller, covariance, power, projection_error
from tests.distiller.features import all_features, random_inputs, shapes


def test_error_from_covariances_equals_that_of_predictions():
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(2, 3, 20, generator=generator)
    target = torch.randn(2, 4, 20, generator=generator)
    weight = torch.randn(4, 3, generator=generator)
    error = projection_error(own, covariance(own), target, power(target), weight)
    torch.testing.assert_close(error, (weight @ own - target).square().mean((1, 2)))


def test_loss_is_the_weighted_error_of_all_pairs():
    torch.manual_seed(0)
    sizes, teacher_sizes = shapes(channels=4, blocks=1), shapes(channels=6, blocks=2)
    distiller = SemCKDDistiller(Sizes(sizes, teacher_sizes, 5, 3))
    student, teacher = random_inputs(sizes, 3, 5, 1), random_inputs(teacher_sizes, 3, 5, 2)
    own, targets = all_features(student), all_features(teacher)
    weights = distiller.attention(own, targets)
    expected = 0.0
    for i, x in enumerate(own):
        for j, y in enumerate(targets):
            bins = min(x.shape[3], y.shape[3])
            narrow = (functional.adaptive_avg_pool2d(z, (5, bins)) for z in (x, y))
            error = squared_error(*narrow, distiller.projections[i][j].weight)
            expected = expected + (weights[:, i, j] * error).mean() / len(own)
    loss, stats = distiller(student, teacher)
    torch.testing.assert_close(loss, expected)
    assert len(stats) == len(own)


def squared_error(x, y, projection):
    return (torch.einsum("dc,bctf->bdtf", projection, x) - y).square().mean((1, 2, 3))
