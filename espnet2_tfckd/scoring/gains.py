"""The gains of systems over the mixture on each utterance."""

from __future__ import annotations

import math
from collections.abc import Mapping

from espnet2_tfckd.scoring.columns import SCORES

SNR_COLUMN = "snr_db"

Scores = Mapping[str, Mapping[str, float | None]]  # of each utterance by metric
Gains = dict[str, dict[str, float]]  # by metric of each utterance


def gains_over(mixture: Scores, estimates: Scores) -> Gains:
    """Gain on each utterance in each metric that scored both mixture and estimate.

    In every metric, a larger gain is better.

    Examples:
        >>> gains_over({"a": {"stoi": 0.5, "wer": 0.75}}, {"a": {"stoi": 0.75, "wer": 0.5}})
        {'stoi': {'a': 0.25}, 'wer': {'a': 0.25}}
    """
    gains: Gains = {}
    for metric, column in SCORES.items():
        sign = 1 if column.is_gain else -1
        for utterance, scores in estimates.items():
            pair = scores.get(metric), mixture.get(utterance, {}).get(metric)
            if None not in pair:
                gains.setdefault(metric, {})[utterance] = sign * (pair[0] - pair[1])
    return gains


def input_snrs(
    metadata: Mapping[str, Mapping[str, str]], mixture: Scores
) -> tuple[dict[str, float], str]:
    """SNR of each mixture in dB, from ``metadata.csv``; without it, the mixture's SI-SDR.

    Returns:
        SNRs of the utterances for which they are known, and their name in words.

    Raises:
        ValueError: If an SNR is not a number.
    """
    if any(row.get(SNR_COLUMN) for row in metadata.values()):
        snrs = {}
        for utterance, row in metadata.items():
            try:
                snrs[utterance] = float(row.get(SNR_COLUMN) or math.nan)
            except ValueError as error:
                raise ValueError(f"metadata.csv, {utterance}: {SNR_COLUMN}: {error}") from error
        name = "SNR of the mixture (dB)"
    else:
        snrs = {utt: scores.get("si_sdr") for utt, scores in mixture.items()}
        name = "SI-SDR of the mixture (dB)"
    return {u: snr for u, snr in snrs.items() if snr is not None and math.isfinite(snr)}, name


def scatter_plot(gains: Mapping[str, Gains], snrs: Mapping[str, float], snr_name: str) -> dict:
    """Data of a plot of gains against SNRs.

    Args:
        gains: From :func:`gains_over` by the name of the system.
        snrs: From :func:`input_snrs`.
        snr_name: Title of the horizontal axis.

    Returns:
        ``x`` (title), ``utterances``, ``snrs`` and, for each metric, ``key``, ``title``,
        ``decimals`` and ``gains``: for each system the gains on all utterances, None if unknown.
    """
    metrics = [m for m in SCORES if any(snrs.keys() & g.get(m, {}) for g in gains.values())]
    utterances = [
        u for u in snrs if any(u in g.get(m, {}) for g in gains.values() for m in metrics)
    ]
    return {
        "x": snr_name,
        "utterances": utterances,
        "snrs": [round(snrs[utterance], 2) for utterance in utterances],
        "metrics": [
            {
                "key": metric,
                "title": f"gain in {SCORES[metric].title}",
                "decimals": SCORES[metric].decimals,
                "gains": {
                    system: [_rounded(g.get(metric, {}).get(u)) for u in utterances]
                    for system, g in gains.items()
                },
            }
            for metric in metrics
        ],
    }


def _rounded(gain: float | None) -> float | None:
    return None if gain is None else round(gain, 4)
