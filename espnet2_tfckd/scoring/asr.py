"""Scores from a speech recogniser: word error rate, and the L3DAS challenge's metric.

Works on transcripts; the recognisers themselves are in :mod:`espnet2_tfckd.scoring.recogniser`.

References:
    Task 1 of "Overview of the L3DAS23 Challenge on Audio-Visual Extended Reality",
    arXiv 2402.09245.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Keys in ``results.json``.
KEYS = ("wer", "task1_metric")


def words_of(transcript: str) -> list[str]:
    """The words of a transcript, in lower case, without punctuation except apostrophes.

    Examples:
        >>> words_of("He said: DON'T  go!")
        ['he', 'said', "don't", 'go']
    """
    return re.findall(r"[\w']+", transcript.casefold())


def word_error_rate(reference: Sequence[str], estimate: Sequence[str]) -> float:
    """Substitutions, deletions and insertions per word of the reference; 0 is best, may exceed 1.

    Raises:
        ValueError: If the reference has no words.

    Examples:
        >>> word_error_rate("the cat sat down".split(), "the hat sat".split())
        0.5
    """
    import editdistance

    if not reference:
        raise ValueError("WER: the recogniser hears no words in the reference")
    return editdistance.eval(reference, estimate) / len(reference)


def task1_metric(stoi: float, wer: float) -> float:
    """The challenge's metric (STOI + 1 - WER) / 2, from 0 to 1, higher is better.

    Both are limited to the range 0 to 1 first.

    Examples:
        >>> task1_metric(stoi=0.8, wer=0.25), task1_metric(stoi=0.8, wer=3.0)
        (0.775, 0.4)
    """
    return (_limited(stoi) + 1 - _limited(wer)) / 2


def _limited(value: float) -> float:
    return min(1.0, max(0.0, value))


def score_transcripts(
    reference: str, estimate: str, stoi: float | None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Compare what a recogniser hears in an estimate with what it hears in the reference.

    Args:
        reference: Transcript of the clean reference by the same recogniser.
        estimate: Transcript of the estimate.
        stoi: STOI of the estimate, None where it could not be computed.

    Returns:
        ``wer``, limited to 1, and ``task1_metric``, None where the utterance cannot be scored; and
        the reason for each of these.
    """
    try:
        wer = _limited(word_error_rate(words_of(reference), words_of(estimate)))
    except ValueError as error:
        return dict.fromkeys(KEYS), dict.fromkeys(KEYS, str(error))
    if stoi is None:
        return {"wer": wer, "task1_metric": None}, {"task1_metric": "there is no STOI"}
    return {"wer": wer, "task1_metric": task1_metric(stoi, wer)}, {}
