from __future__ import annotations

import pytest
import torch

from espnet2_tfckd.distiller.abs_distiller import DistillInputs, Sizes
from espnet2_tfckd.distiller.dfkd import DFKDDistiller, split_bin

TARGET = torch.tensor([1.0, 1j, 4.0, 4.0]).view(1, 1, 4)  # rises by the factor 4 after bin 1


def outcome(own, weight=0.5):
    def inputs(spectrum):
        return DistillInputs({}, spectrum.view(1, 1, 4), torch.zeros(1, 1))

    return DFKDDistiller(Sizes({}, {}, 1, 1), weight)(inputs(own), inputs(TARGET))


def test_split_follows_the_running_maximum_of_each_frame():
    magnitude = torch.tensor([[[1.0, 9.0, 1.0, 10.0], [1.0, 1.0, 1.0, 1.1], [0.0, 0.0, 0.0, 0.0]]])
    assert split_bin(magnitude).tolist() == [[0, 2, 0]]


def test_bands_have_their_own_losses():
    # below: (1, 1) to (1, j), cosine 1 / 2
    # above: (0, 4) to (4, 4), cosine 1 / sqrt(2), squared error 16 / 2
    loss, stats = outcome(torch.tensor([1.0, 1.0, 0.0, 4.0]) + 0j, weight=0.25)
    torch.testing.assert_close(stats["kd_low"], torch.tensor(0.5))
    expected = 0.25 * (1 - 0.5**0.5) + 0.75 * 8
    torch.testing.assert_close(stats["kd_high"], torch.tensor(expected))
    torch.testing.assert_close(loss, stats["kd_low"] + stats["kd_high"])
    assert stats["kd_split"] == 1


def test_level_of_the_lower_band_does_not_matter():
    louder = TARGET * torch.tensor([3.0, 3.0, 1.0, 1.0])
    assert outcome(louder)[0].abs() < 1e-6


def test_phase_of_the_higher_band_enters_by_the_cosine_alone():
    turned = TARGET * torch.tensor([1.0, 1.0, 1j, 1j])
    torch.testing.assert_close(outcome(turned, weight=0.5)[0], torch.tensor(0.5))
    assert outcome(turned, weight=0.0)[0].abs() < 1e-6


def test_weights_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match="high_cosine_weight.*1.5"):
        DFKDDistiller(Sizes({}, {}, 1, 1), high_cosine_weight=1.5)
