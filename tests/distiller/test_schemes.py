"""What holds for every distillation scheme."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from espnet2_tfckd.distiller.abs_distiller import Sizes
from espnet2_tfckd.distiller.registry import distillers
from tests.distiller.features import all_outputs, mapped, random_inputs, shapes

STUDENT, TEACHER = shapes(channels=4, blocks=1), shapes(channels=6, blocks=2)
BATCH, FRAMES = 3, 5
SMALL = {
    "clskd": dict(fusion_channels=4),
    "i2srf_tfckd": dict(fusion_channels=4),
    "reviewkd": dict(fusion_channels=4),
    "rfpkd": dict(fusion_channels=4),
}
every_scheme = pytest.mark.parametrize("scheme", distillers())


def build(scheme: str, teacher_shapes=TEACHER):
    torch.manual_seed(0)
    sizes = Sizes(STUDENT, teacher_shapes, FRAMES, BATCH)
    return distillers()[scheme](sizes, **SMALL.get(scheme, {}))


def step(distiller, student, teacher):
    loss, stats = distiller(student, teacher)
    loss.backward()
    return loss, stats


@every_scheme
def test_gradients_reach_student_and_distiller_and_never_the_teacher(scheme):
    distiller = build(scheme)
    student = random_inputs(STUDENT, BATCH, FRAMES, seed=1)
    teacher = random_inputs(TEACHER, BATCH, FRAMES, seed=2)
    loss, _ = step(distiller, student, teacher)
    assert loss > 0
    assert any(x.grad is not None and x.grad.abs().sum() > 0 for x in all_outputs(student))
    assert all(p.grad is not None for p in distiller.parameters())
    assert all(x.grad is None for x in all_outputs(teacher))


@every_scheme
def test_parts_are_logged_as_detached_scalars(scheme):
    student, teacher = (
        random_inputs(sizes, BATCH, FRAMES, seed) for seed, sizes in enumerate((STUDENT, TEACHER))
    )
    loss, stats = build(scheme)(student, teacher)
    assert loss.dim() == 0 and stats
    for name, value in stats.items():
        assert name.startswith("kd_") and value.dim() == 0 and not value.requires_grad


DEGENERATE = {
    "silent": lambda x: torch.zeros_like(x),
    "identical": lambda x: x,
    "opposite": lambda x: -x,
    "loud": lambda x: 1e4 * x,
}


@every_scheme
@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("teacher_is_silent", [False, True])
def test_degenerate_outputs_give_finite_loss_and_gradient(scheme, kind, teacher_is_silent):
    distiller = build(scheme, teacher_shapes=STUDENT)
    teacher = random_inputs(STUDENT, BATCH, FRAMES, seed=1)
    student = mapped(teacher, DEGENERATE[kind])
    if teacher_is_silent:
        teacher = mapped(teacher, torch.zeros_like)
    loss, stats = step(distiller, student, teacher)
    assert torch.isfinite(loss) and all(torch.isfinite(x) for x in stats.values())
    for x in (*all_outputs(student), *distiller.parameters()):
        assert x.grad is None or torch.isfinite(torch.view_as_real(x.grad + 0j)).all()


@every_scheme
@pytest.mark.parametrize("silent", ["reference", "student", "teacher", "all"])
def test_one_silent_utterance_in_a_batch_gives_finite_loss_and_gradient(scheme, silent):
    heard = torch.tensor([1.0, 0.0, 1.0])

    def mute(x):
        return x * heard.view(-1, *[1] * (x.dim() - 1))

    def muted(inputs, name):
        inputs = mapped(inputs, mute) if silent in (name, "all") else inputs
        of_reference = mute if silent in ("reference", "all") else torch.clone
        return replace(inputs, reference=of_reference(inputs.reference))

    distiller = build(scheme)
    student = muted(random_inputs(STUDENT, BATCH, FRAMES, seed=1), "student")
    teacher = muted(random_inputs(TEACHER, BATCH, FRAMES, seed=2), "teacher")
    loss, stats = step(distiller, student, teacher)
    assert loss > 0 and all(torch.isfinite(x) for x in (loss, *stats.values()))
    for x in (*all_outputs(student), *distiller.parameters()):
        assert x.grad is None or torch.isfinite(torch.view_as_real(x.grad + 0j)).all()


@every_scheme
@pytest.mark.parametrize("batch", [1, 2])
def test_a_smaller_last_batch_is_taken(scheme, batch):
    student = random_inputs(STUDENT, batch, FRAMES, seed=1)
    teacher = random_inputs(TEACHER, batch, FRAMES, seed=2)
    loss, _ = step(build(scheme), student, teacher)
    assert torch.isfinite(loss)


@every_scheme
def test_networks_may_differ_in_bins_and_in_number_of_layers(scheme):
    other = shapes(channels=6, blocks=4, bins=21)
    other["encoder"].append(other["encoder"][-1])
    other["decoder"][-1] = (2, 17)  # spectra themselves must agree
    student = random_inputs(STUDENT, BATCH, FRAMES, seed=1)
    teacher = random_inputs(other, BATCH, FRAMES, seed=2)
    loss, _ = step(build(scheme, teacher_shapes=other), student, teacher)
    assert torch.isfinite(loss) and loss > 0


@every_scheme
def test_half_precision_features_are_taken(scheme):
    student, teacher = (
        mapped(random_inputs(sizes, BATCH, FRAMES, seed), _halved)
        for seed, sizes in enumerate((STUDENT, TEACHER))
    )
    loss, _ = step(build(scheme), student, teacher)
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


def _halved(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_complex() else x.half()


@every_scheme
def test_double_precision_gives_the_same_loss(scheme):
    def wide(x):
        return x.to(torch.complex128 if x.is_complex() else torch.double)

    pair = [random_inputs(sizes, BATCH, FRAMES, seed=1) for sizes in (STUDENT, TEACHER)]
    wide_pair = [replace(mapped(x, wide), reference=wide(x.reference)) for x in pair]
    expected, _ = build(scheme)(*pair)
    loss, _ = step(build(scheme).double(), *wide_pair)
    assert loss.dtype == torch.double
    torch.testing.assert_close(loss.float(), expected, rtol=1e-4, atol=1e-6)
