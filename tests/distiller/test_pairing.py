from __future__ import annotations

import pytest
import torch

from espnet2_tfckd.distiller.pairing import (
    equal_depth,
    mean_of_pairs,
    pair_layers,
    pool_bins,
    review_pairs,
    to_common_bins,
)


@pytest.mark.parametrize("layers", range(1, 6))
@pytest.mark.parametrize("others", range(1, 6))
def test_counterparts_never_go_back_and_end_with_the_last(layers, others):
    counterparts = equal_depth(layers, others)
    assert len(counterparts) == layers
    assert counterparts == sorted(counterparts)
    assert counterparts[-1] == others - 1 and counterparts[0] >= 0


def test_equal_stacks_pair_layer_by_layer():
    assert equal_depth(4, 4) == [0, 1, 2, 3]


def test_pairs_follow_the_signal_and_never_leave_their_set():
    student = {"decoder": ["d0", "d1"], "bottleneck": ["b0"], "encoder": ["e0"]}
    teacher = {"encoder": ["E0"], "bottleneck": ["B0", "B1", "B2"], "decoder": ["D0", "D1"]}
    assert list(pair_layers(student, teacher).items()) == [
        ("encoder0", ("e0", "E0")),
        ("bottleneck0", ("b0", "B2")),
        ("decoder0", ("d0", "D0")),
        ("decoder1", ("d1", "D1")),
    ]


def test_bins_are_averaged_and_frames_left_alone():
    feature = torch.tensor([[1.0, 3.0, 5.0, 7.0], [2.0, 2.0, 0.0, 4.0]]).view(1, 1, 2, 4)
    assert pool_bins(feature, 2).tolist() == [[[[2.0, 6.0], [2.0, 2.0]]]]
    assert pool_bins(feature, 4) is feature


@pytest.mark.parametrize("bins", [(6, 3), (3, 6), (3, 3)])
def test_the_narrower_feature_keeps_its_bins(bins):
    student, teacher = (torch.randn(1, 2, 4, n) for n in bins)
    pooled = to_common_bins(student, teacher)
    assert [x.shape[3] for x in pooled] == [3, 3]
    assert all(x is y for x, y in zip(pooled, (student, teacher), strict=True) if y.shape[3] == 3)


def test_loss_is_the_mean_and_each_pair_is_logged():
    losses = {"encoder0": torch.tensor(1.0), "decoder0": torch.tensor(4.0, requires_grad=True)}
    loss, stats = mean_of_pairs(losses)
    assert loss.item() == 2.5 and loss.requires_grad
    assert stats == {"kd_encoder0": 1.0, "kd_decoder0": 4.0}
    assert not stats["kd_decoder0"].requires_grad


def test_a_review_goes_from_the_output_back_to_the_input():
    sets = {"encoder": [0, 1], "bottleneck": [2], "decoder": [3, 4]}
    assert list(review_pairs(sets, sets).values()) == [(n, n) for n in (4, 3, 2, 1, 0)]
