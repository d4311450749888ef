from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import Sizes
from espnet2_tfckd.distiller.rfpkd import RFPKDDistiller, probabilistic_distance
from tests.distiller.features import random_inputs, shapes


def literal_distance(student, teacher):
    """Frame by frame, with divergence as a sum of logarithms of quotients."""
    total = 0.0
    for own, target in zip(student.unbind(2), teacher.unbind(2), strict=True):
        weight = torch.sigmoid(target.mean((1, 2)))
        p, q = (similarity(x.flatten(1)) for x in (own, target))
        divergence = p * (p / q).log() + q * (q / p).log()
        total += (weight[:, None] * divergence).mean()
    return total


def similarity(x):
    x = x / (x.norm(dim=1, keepdim=True) + 1e-6)
    mapped = (x @ x.t() + 1) / 2
    return mapped / mapped.sum(1, keepdim=True)


def test_value_equals_the_literal_transcription():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(3, 2, 4, 5, generator=generator)
    teacher = torch.randn(3, 6, 4, 7, generator=generator) + 0.3
    torch.testing.assert_close(
        probabilistic_distance(student, teacher), literal_distance(student, teacher)
    )


def test_frames_in_which_the_teacher_is_active_weigh_more():
    student, teacher = torch.randn(2, 3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    louder = probabilistic_distance(student, 3 * teacher.abs())
    assert louder > probabilistic_distance(student, teacher.abs())


def test_every_teacher_layer_is_compared():
    student, teacher = shapes(channels=4, blocks=1), shapes(channels=6, blocks=4)
    distiller = RFPKDDistiller(Sizes(student, teacher, 5, 2), fusion_channels=4)
    _, stats = distiller(random_inputs(student, 2, 5, 1), random_inputs(teacher, 2, 5, 2))
    layers = {"encoder": 3, "bottleneck": 4, "decoder": 3}
    assert set(stats) == {f"kd_{name}{n}" for name in layers for n in range(layers[name])}
