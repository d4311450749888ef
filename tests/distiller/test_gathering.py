"""A batch spread over processes gives the loss and the gradients of one process with all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import distributed

from espnet2_tfckd.distiller.abs_distiller import DistillInputs, Sizes
from espnet2_tfckd.distiller.ranks import gathered, mean_over_ranks, own_utterances, ranks
from espnet2_tfckd.distiller.registry import distillers
from tests.distiller.features import all_outputs, random_inputs, shapes
from tests.ranks import WORLD, on_ranks

STUDENT, TEACHER = shapes(channels=4, blocks=1), shapes(channels=6, blocks=2)
BATCH, FRAMES = 4, 5
CASES = {name: (name, {}) for name in distillers()} | {
    f"i2srf_tfckd, {option}={value}": ("i2srf_tfckd", {option: value})
    for option, value in (
        ("streams", "time"),
        ("streams", "frequency"),
        ("weighting", "exchanged"),
        ("weighting", "nearest"),
        ("weighting", "uniform"),
        ("teacher_fusion", "last"),
        ("matching", "regression"),
    )
}


def cut(inputs: DistillInputs, part: slice) -> DistillInputs:
    """Some of the utterances, as leaves."""

    def leaf(x):
        return x.detach()[part].clone().requires_grad_()

    return replace(
        inputs,
        feature_sets={name: [leaf(x) for x in xs] for name, xs in inputs.feature_sets.items()},
        spectrum=leaf(inputs.spectrum),
        waveform=leaf(inputs.waveform),
        reference=inputs.reference[part],
    )


def outcome(case: str) -> dict:
    """Loss and gradients of this process's utterances, averaged as DistributedDataParallel does."""
    scheme, options = CASES[case]
    torch.manual_seed(0)
    distiller = distillers()[scheme](Sizes(STUDENT, TEACHER, FRAMES, BATCH), **options)
    student, teacher = (
        random_inputs(sizes, BATCH, FRAMES, seed) for seed, sizes in ((1, STUDENT), (2, TEACHER))
    )
    part = own_utterances(BATCH // ranks())
    student, teacher = cut(student, part), cut(teacher, part)
    distiller.updates += 1
    loss, _ = distiller(student, teacher)
    loss.backward()
    learnt = [p.grad for p in distiller.parameters() if p.grad is not None]
    return {
        "loss": mean_over_ranks(loss),
        "student": [None if x.grad is None else x.grad / ranks() for x in all_outputs(student)],
        "distiller": [mean_over_ranks(grad) for grad in learnt],
        "teacher": [x.grad for x in all_outputs(teacher)],
    }


def all_outcomes() -> dict:
    return {case: outcome(case) for case in CASES}


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    return on_ranks(tmp_path_factory.mktemp("ranks"), all_outcomes)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_process(spread, case):
    whole, parts = outcome(case), [outcomes[case] for outcomes in spread]
    for part in parts:
        torch.testing.assert_close(part["loss"], whole["loss"], rtol=1e-5, atol=0)
        assert part["teacher"] == [None] * len(part["teacher"])
        assert len(part["distiller"]) == len(whole["distiller"])
        for actual, expected in zip(part["distiller"], whole["distiller"], strict=True):
            assert (actual - expected).abs().max() < 1e-5 * largest(whole["distiller"])
    for n, expected in enumerate(whole["student"]):
        pieces = [part["student"][n] for part in parts]
        if expected is None:
            assert pieces == [None] * WORLD
        else:
            assert (torch.cat(pieces) - expected).abs().max() < 1e-5 * largest(whole["student"])


def largest(gradients) -> float:
    return max(grad.abs().max().item() for grad in gradients if grad is not None)


def squares() -> tuple:
    x = torch.full((3, 2), distributed.get_rank() + 1.0, requires_grad=True)
    everything = gathered(x)
    everything.square().sum().backward()
    return everything.detach(), x.grad


def test_gathering_adds_up_what_all_ranks_ask_for(tmp_path):
    for rank, (everything, grad) in enumerate(on_ranks(tmp_path / "ranks", squares)):
        assert everything[:, 0].tolist() == [1, 1, 1, 2, 2, 2]
        assert grad.eq(2 * 2 * (rank + 1)).all()


def test_one_process_gathers_nothing():
    x = torch.ones(2, 3)
    assert ranks() == 1 and gathered(x) is x and torch.equal(mean_over_ranks(x), x)
