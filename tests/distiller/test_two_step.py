from __future__ import annotations

import pytest
import torch

from espnet2_tfckd.distiller.abs_distiller import Sizes
from espnet2_tfckd.distiller.two_step import TwoStepDistiller
from tests.distiller.features import single_pair

OWN = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).view(1, 2, 2, 1)  # frames (1, 0) and (1, 1)
TARGET = torch.tensor([2.0, 0.0]).view(1, 1, 2, 1)


def test_value_compares_the_frames_of_each_utterance_with_each_other():
    # Gram matrices [[1, 1], [1, 2]] and [[4, 0], [0, 0]]
    rows = torch.tensor([[0.5**0.5, 0.5**0.5], [0.2**0.5, 0.8**0.5]])
    expected = (rows - torch.tensor([[1.0, 0.0], [0.0, 0.0]])).square().mean()
    loss, _ = TwoStepDistiller(Sizes({}, {}, 2, 1))(*single_pair(OWN, TARGET))
    torch.testing.assert_close(loss, expected)


def update(distiller):
    """One training batch, counted as the model that calls the scheme does."""
    distiller.updates += 1
    return distiller(*single_pair(OWN, TARGET))[0]


def test_losses_change_places_after_the_first_updates():
    distiller = TwoStepDistiller(Sizes({}, {}, 2, 1), first_updates=2)
    weights, losses = [], []
    for _ in range(4):
        losses.append(update(distiller).item() > 0)
        weights.append(distiller.enhancement_weight)
    assert losses == [True, True, False, False]
    assert weights == [0.0, 0.0, 1.0, 1.0]


def test_a_resumed_training_goes_on_where_it_was():
    before = TwoStepDistiller(Sizes({}, {}, 2, 1), first_updates=2)
    for _ in range(2):
        update(before)
    resumed = TwoStepDistiller(Sizes({}, {}, 2, 1), first_updates=2)
    resumed.load_state_dict(before.state_dict())
    assert resumed.enhancement_weight == 0
    update(resumed)
    assert resumed.enhancement_weight == 1


def test_a_first_step_without_updates_is_refused():
    with pytest.raises(ValueError, match="first_updates"):
        TwoStepDistiller(Sizes({}, {}, 2, 1), first_updates=0)
