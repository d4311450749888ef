"""The check of the unprocessed test set against known scores."""

import argparse

import pytest

from espnet2_tfckd.scoring.journal import JOURNAL
from espnet2_tfckd.stages.check_values import Known, check_values, parse_known

# the fixture's mixtures have 0 and 10 dB, and a little more from noise that resembles the speech
KNOWN = [Known("si_sdr", 5.0, 0.2)]


def test_scores_within_the_tolerance_pass_and_are_kept_for_stage_9(data_dir, tmp_path):
    means = check_values(data_dir, "test", tmp_path / "exp", KNOWN, 1)
    assert means["si_sdr"] == pytest.approx(5.0, abs=0.2)
    assert (tmp_path / "exp" / "noisy" / "scoring_test" / JOURNAL).is_file()


def test_scores_beyond_the_tolerance_are_refused_with_the_remedy(data_dir, tmp_path):
    known = [*KNOWN, Known("stoi", 0.1, 0.003)]
    with pytest.raises(ValueError, match="STOI 0.* known is 0.1 within 0.003") as error:
        check_values(data_dir, "test", tmp_path / "exp", known, 1)
    assert "SI-SDR" not in str(error.value) and '--check_values ""' in str(error.value)


def test_values_are_read_from_one_option():
    assert parse_known("pesq_wb=1.97:0.02 stoi=0.921:0.003") == [
        Known("pesq_wb", 1.97, 0.02),
        Known("stoi", 0.921, 0.003),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("pesq=1.97:0.02", "'pesq' is not among pesq_wb"),
        ("stoi=0.921", "'stoi=0.921' is not metric=value:tolerance"),
        ("stoi=high:0.1", "'stoi=high:0.1' is not metric=value:tolerance"),
    ],
)
def test_values_that_are_none_are_named(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        parse_known(text)
