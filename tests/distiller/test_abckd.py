from __future__ import annotations

import torch
from torch.nn import functional

from espnet2_tfckd.distiller.abckd import ABCKDDistiller
from espnet2_tfckd.distiller.abs_distiller import Sizes
from tests.distiller.features import all_features, random_inputs, shapes


def test_each_student_layer_is_compared_with_its_mixture_of_teacher_layers():
    torch.manual_seed(0)
    sizes, teacher_sizes = shapes(channels=4, blocks=1), shapes(channels=6, blocks=2)
    distiller = ABCKDDistiller(Sizes(sizes, teacher_sizes, 5, 3))
    student, teacher = random_inputs(sizes, 3, 5, 1), random_inputs(teacher_sizes, 3, 5, 2)
    own, targets = all_features(student), all_features(teacher)
    weights = distiller.attention(own, targets)
    expected = 0.0
    for i, x in enumerate(own):
        mixture = torch.zeros(3, 6, 5, 4)
        for j, y in enumerate(targets):
            # the narrowest layers have 4 bins; the teacher's last layer has 2 of 6 channels
            part = functional.adaptive_avg_pool2d(y, (5, 4))
            mixture[:, : y.shape[1]] += weights[:, i, j].view(3, 1, 1, 1) * part
        x4 = functional.adaptive_avg_pool2d(x, (5, 4))
        predicted = torch.einsum("dc,bctf->bdtf", distiller.projections[i].weight, x4)
        expected = expected + (predicted - mixture).square().mean() / len(own)
    loss, stats = distiller(student, teacher)
    torch.testing.assert_close(loss, expected)
    assert len(stats) == len(own)
