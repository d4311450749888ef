"""Differences of two systems, utterance by utterance, and what an experiment found over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet2_tfckd.cli import read_json
from espnet2_tfckd.scoring.columns import HEADLINES, SCORES
from espnet2_tfckd.scoring.tables import markdown_table, mean_and_ci95, scored_columns


@dataclass(frozen=True)
class Comparison:
    """Two systems whose scores are to be compared utterance by utterance.

    Attributes:
        system: Name of the system.
        other: Name of the one whose scores are subtracted.
        experiment: Folder of the results of an experiment that compared such systems over several
            seeds; None if there is none.
        arm: Its arm that corresponds to ``system``.
    """

    system: str
    other: str
    experiment: Path | None = None
    arm: str = ""

    def over_seeds(self) -> dict | None:
        """What the experiment found for the arm; None if it has no such arm.

        Raises:
            FileNotFoundError: If the folder has no ``experiment.json``.
            ValueError: If that cannot be read.
        """
        if self.experiment is None:
            return None
        path = self.experiment / "experiment.json"
        rows = read_json(path)
        try:
            found = [r for r in rows if r["kind"] == "comparison" and r["arm"] == self.arm]
            if not found:
                return None
            first = found[0]  # the first arm that it is compared with is the baseline
            return {
                "folder": str(self.experiment),
                "arm": self.arm,
                "baseline": first["baseline"],
                "num_seeds": first["num_seeds"],
                "differences": {
                    r["metric"]: [r["difference"], r["ci_low"], r["ci_high"]]
                    for r in found
                    if r["baseline"] == first["baseline"]
                },
            }
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} does not hold an experiment's results: {error}") from None


def paired_differences(records: Sequence[dict], of_other: Sequence[dict]) -> dict:
    """Mean differences of the scores of two systems, paired by utterance.

    Args:
        records: Scores of a system.
        of_other: Scores of the system to subtract, on the same utterances.

    Returns:
        For each metric that scored any utterance in both, the mean and ``<metric>_ci95``, the
        half-width of its 95 % interval.

    Examples:
        >>> one = [{"id": "a", "scores": {"stoi": 0.75}}, {"id": "b", "scores": {"stoi": 0.5}}]
        >>> other = [{"id": "a", "scores": {"stoi": 0.5}}, {"id": "b", "scores": {"stoi": 0.25}}]
        >>> paired_differences(one, other)
        {'stoi': 0.25, 'stoi_ci95': 0.0}
    """
    others = {record["id"]: record["scores"] for record in of_other}
    differences = {}
    for key in SCORES:
        pairs = [(r["scores"].get(key), others.get(r["id"], {}).get(key)) for r in records]
        values = [a - b for a, b in pairs if None not in (a, b)]
        if values:
            differences[key], differences[f"{key}_ci95"] = mean_and_ci95(values)
    return differences


def comparison_sentences(rows: Sequence[dict]) -> list[str]:
    """What each compared system scores above the other one: a sentence each, in Markdown."""
    sentences = []
    for row in rows:
        if compared := row.get("comparison"):
            listed = _differences(compared, HEADLINES)
            sentences.append(
                f"{row['dataset']}: {row['system']} minus {compared['with']}, paired by utterance: "
                f"{listed}. One training each: other seeds give other differences."
            )
        if seeds := row.get("over_seeds"):
            listed = ", ".join(
                f"{SCORES[key].name} {SCORES[key].text(difference, signed=True, with_unit=True)} "
                f"[{SCORES[key].text(low, signed=True)}, {SCORES[key].text(high, signed=True)}]"
                for key, (difference, low, high) in seeds["differences"].items()
            )
            sentences.append(
                f"Over {seeds['num_seeds']} seeds, the experiment in `{seeds['folder']}` found for "
                f"{seeds['arm']} minus {seeds['baseline']}: {listed}."
            )
    return list(dict.fromkeys(sentences))


def _differences(compared: dict, keys: Iterable[str]) -> str:
    return ", ".join(
        f"{SCORES[key].name} {SCORES[key].text(compared[key], signed=True)}"
        + (f" ± {SCORES[key].text(half)}" if (half := compared[f"{key}_ci95"]) is not None else "")
        + (f" {SCORES[key].unit}" if SCORES[key].unit else "")
        for key in keys
        if key in compared
    )


def differences_md(rows: Sequence[dict]) -> str:
    """The section of ``RESULTS.md`` on systems that are compared; empty without any."""
    compared = [row for row in rows if row.get("comparison")]
    if not compared:
        return ""
    columns = scored_columns([row["comparison"] for row in compared], SCORES)
    header = ["dataset", "difference", *(SCORES[key].name for key in columns)]
    body = [
        [row["dataset"], f"{row['system']} minus {row['comparison']['with']}"]
        + [SCORES[key].text_of(row["comparison"], signed=True) for key in columns]
        for row in compared
    ]
    sentences = [f"{sentence}\n\n" for sentence in comparison_sentences(rows)]
    return "".join(["\n## Differences\n\n", *sentences, markdown_table(header, body)])
