from __future__ import annotations

import pytest
import torch

from espnet2_tfckd.distiller.two_step import TwoStepDistiller
from tests.distiller.features import single_pair

OWN = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).view(1, 2, 2, 1)  # frames (1, 0) and (1, 1)
TARGET = torch.tensor([2.0, 0.0]).view(1, 1, 2, 1)


def test_value_compares_the_frames_of_each_utterance_with_each_other():
    # Gram matrices [[1, 1], [1, 2]] and [[4, 0], [0, 0]]
    rows = torch.tensor([[0.5**0.5, 0.5**0.5], [0.2**0.5, 0.8**0.5]])
    expected = (rows - torch.tensor([[1.0, 0.0], [0.0, 0.0]])).square().mean()
    loss, _ = TwoStepDistiller({}, {}, 2, 1)(*single_pair(OWN, TARGET))
    torch.testing.assert_close(loss, expected)


def test_losses_change_places_after_the_first_updates():
    distiller = TwoStepDistiller({}, {}, 2, 1, first_updates=2)
    weights, losses = [], []
    for _ in range(4):
        loss, _ = distiller(*single_pair(OWN, TARGET))
        losses.append(loss.item() > 0)
        weights.append(distiller.enhancement_weight)
    assert losses == [True, True, False, False]
    assert weights == [0.0, 0.0, 1.0, 1.0]


def test_evaluation_does_not_count():
    distiller = TwoStepDistiller({}, {}, 2, 1, first_updates=1).eval()
    for _ in range(3):
        distiller(*single_pair(OWN, TARGET))
    assert distiller.updates == 0


def test_a_resumed_training_goes_on_where_it_was():
    before = TwoStepDistiller({}, {}, 2, 1, first_updates=2)
    for _ in range(2):
        before(*single_pair(OWN, TARGET))
    resumed = TwoStepDistiller({}, {}, 2, 1, first_updates=2)
    resumed.load_state_dict(before.state_dict())
    assert resumed.enhancement_weight == 0
    resumed(*single_pair(OWN, TARGET))
    assert resumed.enhancement_weight == 1


def test_a_first_step_without_updates_is_refused():
    with pytest.raises(ValueError, match="first_updates"):
        TwoStepDistiller({}, {}, 2, 1, first_updates=0)
