from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import Sizes
from espnet2_tfckd.distiller.reviewkd import ReviewKDDistiller, hierarchical_context_loss
from tests.distiller.features import random_inputs, shapes


def test_coarser_grids_count_half_as_much_each():
    # 3 frames of 3 bins: grids of 2 and 1 are coarser, that of 4 is not
    error = torch.zeros(1, 1, 3, 3)
    error[..., 0, 0] = 9.0
    # map: 81 / 9; grid of 2, cells of 2 x 2: (9 / 4)^2 / 4; grid of 1: (9 / 9)^2
    expected = (9 + 0.5 * (9 / 4) ** 2 / 4 + 0.25 * 1) / 1.75
    torch.testing.assert_close(
        hierarchical_context_loss(error + 1, torch.ones(1, 1, 3, 3)), torch.tensor(expected)
    )


def test_a_constant_error_weighs_the_same_on_every_grid():
    student = torch.full((2, 3, 8, 8), 3.0)
    loss = hierarchical_context_loss(student, torch.ones(2, 3, 8, 8))
    torch.testing.assert_close(loss, torch.tensor(4.0))


def test_deep_layers_reach_the_loss_of_shallow_ones_and_not_the_reverse():
    torch.manual_seed(0)
    sizes = shapes(channels=4, blocks=1)
    distiller = ReviewKDDistiller(Sizes(sizes, sizes, 5, 2), fusion_channels=4)
    student, teacher = (random_inputs(sizes, 2, 5, seed) for seed in (1, 2))

    def part(changed_set: str, logged: str):
        sets = {name: list(layers) for name, layers in student.feature_sets.items()}
        sets[changed_set][0] = sets[changed_set][0].roll(1, dims=2)
        changed = type(student)(sets, student.spectrum, student.waveform)
        return distiller(changed, teacher)[1][logged]

    _, stats = distiller(student, teacher)
    assert part("decoder", "kd_encoder0") != stats["kd_encoder0"]
    assert part("encoder", "kd_decoder2") == stats["kd_decoder2"]
