"""Word errors and the L3DAS challenge's metric, against values counted by hand."""

import pytest

from espnet2_tfckd.scoring.asr import (
    score_transcripts,
    task1_metric,
    word_error_rate,
    words_of,
)

SPOKEN = "the quick brown fox jumps"
COUNTED = {
    "the quick brown fox jumps": 0.0,
    "the quick brown box jumps": 1 / 5,  # a substitution
    "the brown fox jumps": 1 / 5,  # a deletion
    "the quick brown fox he jumps": 1 / 5,  # an insertion
    "a quick fox jumps over": 3 / 5,  # one of each
    "": 1.0,
    "one two three four five six seven eight": 8 / 5,  # five substitutions, three insertions
}


@pytest.mark.parametrize("heard, rate", COUNTED.items())
def test_word_error_rate_is_that_counted_by_hand(heard, rate):
    assert word_error_rate(SPOKEN.split(), heard.split()) == pytest.approx(rate)


def test_words_are_compared_without_case_and_punctuation():
    assert words_of("Don't stop; the QUICK fox.") == words_of("DON'T STOP THE quick fox")


@pytest.mark.parametrize(
    "stoi, wer, metric",
    [(1, 0, 1), (0.9, 0.2, 0.85), (0.6, 1.6, 0.3), (-0.2, 0.5, 0.25), (0.0, 1.0, 0.0)],
)
def test_metric_is_the_mean_of_stoi_and_right_words_both_limited(stoi, wer, metric):
    assert task1_metric(stoi, wer) == pytest.approx(metric)


def test_scores_limit_the_word_error_rate_as_the_challenge_does():
    scores, failed = score_transcripts("yes", "no never", stoi=0.5)
    assert scores == {"wer": 1.0, "task1_metric": 0.25}
    assert failed == {}


@pytest.mark.parametrize("reference", ["", "  ", "..."])
def test_a_reference_without_words_has_no_scores_but_a_reason(reference):
    scores, failed = score_transcripts(reference, "some words", stoi=0.5)
    assert scores == {"wer": None, "task1_metric": None}
    assert set(failed) == {"wer", "task1_metric"}
    assert "no words in the reference" in failed["wer"]


def test_without_stoi_there_is_a_word_error_rate_only():
    scores, failed = score_transcripts("yes", "yes", stoi=None)
    assert scores == {"wer": 0.0, "task1_metric": None}
    assert list(failed) == ["task1_metric"]
