from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import Sizes
from espnet2_tfckd.distiller.fitnets import FitNetsDistiller
from tests.distiller.features import single_pair, single_shapes


def test_error_is_that_of_the_regressed_feature():
    own = torch.tensor([1.0, 2.0]).view(1, 1, 2, 1)
    target = torch.tensor([[1.0, 1.0], [0.0, 5.0]]).view(1, 2, 2, 1)
    distiller = FitNetsDistiller(Sizes(*single_shapes(own, target), 2, 1))
    with torch.no_grad():
        for regressor in distiller.regressors.values():
            regressor.weight.copy_(torch.tensor([2.0, 1.0]).view(2, 1, 1, 1))
            regressor.bias.copy_(torch.tensor([0.0, 1.0]))
    # regressed [[2, 4], [2, 3]]: errors 1, 3, 2, -2
    loss, stats = distiller(*single_pair(own, target))
    assert loss.item() == 18 / 4
    assert stats == {f"kd_{name}0": 18 / 4 for name in ("encoder", "bottleneck", "decoder")}


def test_a_wider_student_is_averaged_down_to_the_teacher():
    own = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(1, 1, 1, 4)
    target = torch.tensor([2.0, 9.0]).view(1, 1, 1, 2)
    distiller = FitNetsDistiller(Sizes(*single_shapes(own, target), 1, 1))
    for regressor in distiller.regressors.values():
        torch.nn.init.ones_(regressor.weight)
        torch.nn.init.zeros_(regressor.bias)
    assert distiller(*single_pair(own, target))[0].item() == (0 + 9) / 2
