from __future__ import annotations

import pytest
import torch

from espnet2_tfckd.distiller.abs_distiller import DistillInputs, Sizes
from espnet2_tfckd.distiller.dispatch import DISPatchDistiller


def outcome(own, target, reference, patch_bins=2, **options):
    def inputs(magnitudes):
        phase = torch.polar(torch.ones(len(magnitudes)), torch.arange(len(magnitudes)) * 1.0)
        spectrum = (torch.tensor(magnitudes) * phase).view(1, 1, -1)
        truth = torch.tensor(reference).view(1, 1, -1) + 0j
        return DistillInputs({}, spectrum, torch.zeros(1, 1), truth)

    return DISPatchDistiller(Sizes({}, {}, 1, 1), patch_bins, **options)(
        inputs(own), inputs(target)
    )


def test_only_patches_where_the_teacher_is_nearer_the_reference_count():
    # patches of bins 0-1, 2-3 and 4: teacher better, student better, teacher better
    loss, stats = outcome(
        own=[3.0, 1.0, 1.0, 1.0, 0.0],
        target=[1.0, 2.0, 5.0, 1.0, 2.0],
        reference=[1.0, 1.0, 1.0, 1.0, 3.0],
    )
    # squared errors towards the teacher: (4 + 1) / 2 and 4
    torch.testing.assert_close(loss, torch.tensor((2.5 + 4.0) / 2))
    torch.testing.assert_close(stats["kd_selected"], torch.tensor(2 / 3))


def test_a_worse_teacher_teaches_nothing():
    loss, stats = outcome([1.0, 1.0], [2.0, 2.0], [1.0, 1.0])
    assert loss == 0 and stats["kd_selected"] == 0


def test_patches_larger_than_the_spectrum_judge_whole_frames():
    loss, _ = outcome([0.0, 2.0], [1.0, 1.0], [1.0, 1.0], patch_bins=20)
    torch.testing.assert_close(loss, torch.tensor(1.0))


def test_a_share_of_the_patches_may_be_distilled_even_where_the_teacher_is_worse():
    # gaps of single bins: 3, -8, 0 and -3
    own, target, reference = [3.0, 1.0, 1.0, 1.0], [2.0, 4.0, 1.0, 3.0], [1.0, 1.0, 1.0, 1.0]
    for share, errors in ((0.1, [1.0]), (0.5, [1.0, 0.0]), (0.75, [1.0, 0.0, 4.0])):
        loss, stats = outcome(own, target, reference, patch_bins=1, top_fraction=share)
        torch.testing.assert_close(loss, torch.tensor(sum(errors) / len(errors)))
        torch.testing.assert_close(stats["kd_selected"], torch.tensor(len(errors) / 4))


@pytest.mark.parametrize("options", [{"patch_bins": 0}, {"top_fraction": 0}, {"top_fraction": 1.5}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DISPatchDistiller(Sizes({}, {}, 1, 1), **options)
