"""From per-utterance scores to ``results.json``, ``RESULTS.md`` and a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from espnet2_tfckd.scoring.columns import COLUMNS, COSTS, SCORES

GROUPS = {"snr_db": "SNR (dB)", "noise_kind": "noise"}
MAX_SNR_VALUES = 8  # up to this many different SNRs are a group each; more are put into bins
SNR_BIN_DB = 5
_BY_GROUP = [key for key, column in SCORES.items() if column.by_group]


def mean_and_ci95(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and half-width of its 95 % confidence interval over utterances.

    The interval is Student's: ``t(0.975, n - 1) * s / sqrt(n)`` with the sample standard deviation
    ``s``, which treats utterances as independent.

    Returns:
        Mean (None without values) and half-width (None with fewer than two values).

    Examples:
        >>> mean, half_width = mean_and_ci95([1.0, 2.0, 3.0])
        >>> f"{mean:.1f} {half_width:.3f}"
        '2.0 2.484'
    """
    from scipy.special import stdtrit

    count = len(values)
    if count == 0:
        return None, None
    mean = math.fsum(values) / count
    if count == 1:
        return mean, None
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return mean, float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)


def summarise(system: str, dataset: str, records: Sequence[dict], costs: dict) -> dict:
    """Summarise the scores of one system on one data set.

    Args:
        system: Name of the system.
        dataset: Name of the data set.
        records: From :func:`espnet2_tfckd.scoring.parallel.score_systems`.
        costs: Contents of the model's ``profile.json``; empty for the mixture.

    Returns:
        An object of ``results.json``: means over the utterances that the metric could score,
        ``<metric>_ci95``, ``num_failed`` (utterances that some metric could not score) and
        ``failed`` (their ids for each metric), ``recogniser`` (whose words make the WER) and the
        costs.
    """
    summary = {"system": system, "dataset": dataset, "num_utterances": len(records)}
    failed = {}
    for key in SCORES:
        values = [record["scores"].get(key) for record in records]
        scored = [value for value in values if value is not None]
        summary[key], summary[f"{key}_ci95"] = mean_and_ci95(scored)
        if ids := [record["id"] for record in records if key in record["failed"]]:
            failed[key] = ids
    summary |= {key: costs.get(key) for key in COSTS}
    summary["num_failed"] = len({utt for ids in failed.values() for utt in ids})
    summary["failed"] = failed
    recognisers = {record["asr"]["recogniser"] for record in records if "asr" in record}
    summary["recogniser"] = " and ".join(sorted(recognisers)) or None
    return summary


def group_utterances(metadata: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Group utterances by SNR and by noise kind.

    Args:
        metadata: For each utterance its row of ``metadata.csv``.

    Returns:
        For each of the columns ``snr_db`` and ``noise_kind`` that is there, the group of each
        utterance. Up to eight different SNRs are a group each; more are put into bins of 5 dB.

    Raises:
        ValueError: If an SNR is not a number.
    """
    groups = {
        column: {utt: row[column] for utt, row in metadata.items()}
        for column in GROUPS
        if metadata and all(column in row for row in metadata.values())
    }
    if "snr_db" in groups:
        try:
            groups["snr_db"] = _bins({utt: float(snr) for utt, snr in groups["snr_db"].items()})
        except ValueError as error:
            raise ValueError(f"metadata.csv, column snr_db: {error}") from error
    return groups


def _bins(snrs: dict[str, float]) -> dict[str, str]:
    if len(set(snrs.values())) <= MAX_SNR_VALUES:
        return {utt: f"{snr:g}" for utt, snr in snrs.items()}
    lower = {utt: math.floor(snr / SNR_BIN_DB) * SNR_BIN_DB for utt, snr in snrs.items()}
    return {utt: f"{edge} to {edge + SNR_BIN_DB}" for utt, edge in lower.items()}


def improvements(
    records: Sequence[dict], noisy_records: Sequence[dict], groups: dict[str, dict[str, str]]
) -> list[dict]:
    """Mean improvement over the mixture in each group of utterances.

    Args:
        records: Scores of a system.
        noisy_records: Scores of the mixture on the same utterances.
        groups: From :func:`group_utterances`.

    Returns:
        One object for each group: ``by`` (the column), ``group``, ``num_utterances``, and for each
        metric the mean difference over the utterances that it could score in both.
    """
    noisy = {record["id"]: record["scores"] for record in noisy_records}
    rows = []
    for column, group_of in groups.items():
        members: dict[str, list[dict]] = {}
        for record in records:
            members.setdefault(group_of[record["id"]], []).append(record)
        for group in sorted(members, key=_natural):
            row = {"by": column, "group": group, "num_utterances": len(members[group])}
            for key in SCORES:
                pairs = [(r["scores"].get(key), noisy[r["id"]].get(key)) for r in members[group]]
                row[key], _ = mean_and_ci95([a - b for a, b in pairs if None not in (a, b)])
            rows.append(row)
    return rows


def _natural(group: str) -> tuple[float, str]:
    """Sort numbers and ranges by value, names alphabetically."""
    try:
        return float(group.split()[0]), group
    except (ValueError, IndexError):
        return math.inf, group


def merge(earlier: Sequence[dict], new: Sequence[dict]) -> list[dict]:
    """Merge new objects of ``results.json`` with the earlier ones.

    An object replaces the earlier one of the same system and data set. Data sets keep their order.
    In each, the noisy mixture comes first, then the new rows in their order, then the earlier ones.
    """
    replaced = {(row["system"], row["dataset"]) for row in new}
    rows = [*new, *(row for row in earlier if (row["system"], row["dataset"]) not in replaced)]
    datasets = list(dict.fromkeys(row["dataset"] for row in [*earlier, *new]))
    return sorted(rows, key=lambda row: (datasets.index(row["dataset"]), row["system"] != "noisy"))


def scored_columns(rows: Sequence[dict], columns: Iterable[str]) -> list[str]:
    """The columns in which some row has a value."""
    return [key for key in columns if any(row.get(key) is not None for row in rows)]


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table in the style of ESPnet's ``RESULTS.md``."""
    lines = [header, ["---"] * len(header), *body]
    return "".join(f"|{'|'.join(line)}|\n" for line in lines)


def terminal_table(rows: Sequence[dict]) -> str:
    """A compact table of means for the terminal."""
    columns = scored_columns(rows, COLUMNS)
    header = ["dataset", "system", *(COLUMNS[key].name for key in columns)]
    header = [text.removeprefix("DNSMOS-") for text in header]
    body = [
        [row["dataset"], row["system"], *(COLUMNS[key].text(row.get(key)) for key in columns)]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [header, *body]) for i in range(len(header))]
    return "".join(
        " ".join(
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in [header, *body]
    )


def results_md(rows: Sequence[dict], environment: dict[str, str], configs: dict[str, str]) -> str:
    """The whole ``RESULTS.md``.

    Args:
        rows: The objects of ``results.json``.
        environment: Versions and revision, by name.
        configs: Training configuration of each system that has one.

    Returns:
        Text in Markdown: environment, configurations, scores, improvements over the mixture.
    """
    header, columns = score_header(rows)
    parts = ["<!-- Generated by espnet2_tfckd.stages.score -->\n# RESULTS\n## Environments\n"]
    parts += [f"- {name}: `{value}`\n" for name, value in environment.items()]
    parts += ["\n## config\n", *(f"- {name}: `{path}`\n" for name, path in configs.items())]
    parts += ["\n## Scores\n"]
    notes: list[str] = []
    body = []
    for row in rows:
        cells = []
        for key in columns:
            text = COLUMNS[key].text_of(row)
            if note := left_out(row, key):
                notes.append(note)
                text += f" [^{len(notes)}]"
            cells.append(text)
        body.append([row["dataset"], row["system"], str(row["num_utterances"]), *cells])
    parts += [markdown_table(header, body), "\n", explanations(rows)]
    parts += [f"\n[^{i}]: {note}\n" for i, note in enumerate(notes, 1)]
    return "".join([*parts, *_improvement_section(rows)])


def score_header(rows: Sequence[dict]) -> tuple[list[str], list[str]]:
    """Header of the table of scores, and the keys of its columns after the first three."""
    columns = scored_columns(rows, COLUMNS)
    names = (COLUMNS[key].name for key in columns)
    return ["dataset", "system", "utterances", *names], columns


def left_out(row: dict, key: str) -> str | None:
    """The utterances that a metric could not score, in Markdown; None if it scored all."""
    ids = row["failed"].get(key)
    if not ids:
        return None
    return (
        f"{SCORES[key].name} of {row['system']} on {row['dataset']} leaves out {len(ids)} of "
        f"{row['num_utterances']} utterances that it cannot score: "
        + ", ".join(f"`{utt}`" for utt in ids)
    )


def explanations(rows: Sequence[dict]) -> str:
    """Explanations of the columns that are present, in Markdown."""
    lines = (
        "Means over utterances ± half-width of the 95 % confidence interval, "
        "t(0.975, n-1) s / √n, utterances taken as independent. "
        "SI-SDR, SDR, CI-SDR and SegSNR in dB; STOI and ESTOI from 0 to 1; "
        "PESQ-WB, CSIG, CBAK, COVL and DNSMOS are mean opinion scores up to 5. "
        "Of these, higher is better.\n"
    )
    if scored_columns(rows, COSTS):
        lines += (
            "params: parameters of the model. GMAC/s: 10⁹ multiply-accumulates per second of "
            "audio, in matrix products and convolutions. RTF: processing time over duration on "
            "one CPU thread, median.\n"
        )
    return lines + _of_recognisers(rows)


def _of_recognisers(rows: Sequence[dict]) -> str:
    names = sorted({row["recogniser"] for row in rows if row.get("recogniser")})
    if not names:
        return ""
    heard = " and ".join(f"`{name}`" for name in names)
    return (
        f"WER: errors per word in what {heard} hears in the estimate, against what it hears in the "
        "reference; from 0 to 1, lower is better. Task 1 metric: (STOI + 1 - WER) / 2 of the L3DAS "
        "challenges, from 0 to 1.\n"
    )


def _improvement_section(rows: Sequence[dict]) -> list[str]:
    improved = [(row, group) for row in rows for group in row.get("improvement", ())]
    if not improved:
        return []
    columns = scored_columns([group for _, group in improved], _BY_GROUP)
    body = [
        [row["dataset"], row["system"], GROUPS[group["by"]], group["group"]]
        + [str(group["num_utterances"])]
        + [SCORES[key].text(group.get(key), signed=True) for key in columns]
        for row, group in improved
    ]
    header = [
        "dataset",
        "system",
        "by",
        "group",
        "utterances",
        *(SCORES[key].name for key in columns),
    ]
    return ["\n## Improvement over noisy\n", markdown_table(header, body)]
