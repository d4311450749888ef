"""From finished jobs to ``experiment.json``, ``experiment.md``, ``experiment.png`` and a CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.datadir import read_data_dir
from espnet2_tfckd.scoring.comparison import comparisons
from espnet2_tfckd.scoring.comparison_report import draw_differences, report_md
from espnet2_tfckd.stages.experiment_plan import Plan
from espnet2_tfckd.stages.profile import cpu_name
from espnet2_tfckd.stages.score import environment


def write_results(plan: Plan, results_dir: Path, command: str) -> None:
    """Write what is known of an experiment by now.

    Args:
        plan: Of the whole experiment.
        results_dir: Directory of the four files.
        command: The command line, for the report.
    """
    experiment = plan.workspace.experiment
    records = [(job, record) for job in plan.jobs() if (record := job.record())]
    scored = [record for job, record in records if job.kind in ("reference", "run")]
    scored.sort(key=lambda record: _place(record["result"], list(experiment.arms)))
    rows = [record["result"] for record in scored] + _tuning_rows(plan)
    scores: dict[str, dict[int, dict]] = {}
    for record in scored:
        if record["result"]["kind"] == "run":
            of_arm = scores.setdefault(record["result"]["arm"], {})
            of_arm[record["result"]["seed"]] = record["scores"]
    names = (experiment.columns, experiment.baseline, experiment.method)
    rows += comparisons(scores, *names)
    with atomic_write(results_dir / "experiment.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    with atomic_write(results_dir / "experiment.md") as temporary:
        facts = _facts(plan, rows, command)
        temporary.write_text(report_md(rows, *names, facts), encoding="utf-8")
    draw_differences(rows, *names[:2], results_dir / "experiment.png")
    _write_utterances(scored, experiment.columns, results_dir / "utterances.csv")


def _place(result: dict, arms: list[str]) -> tuple:
    """Noisy and teacher first, then the arms in the order of the YAML."""
    if result["kind"] == "reference":
        return (0, result["arm"])
    return (1, arms.index(result["arm"]), result["seed"])


def _tuning_rows(plan: Plan) -> list[dict]:
    rows = []
    if not plan.has_teacher():
        return rows
    for arm in plan.arms:
        if arm.tune:
            search = plan.search(arm)
            for record in search.records:
                row = {key: record["result"][key] for key in ("kind", "arm")}
                row |= {key: record["result"][key] for key in ("distill_weight", "valid_loss")}
                rows.append(row | {"chosen": row["distill_weight"] == search.weight})
    return rows


def _facts(plan: Plan, rows: list[dict], command: str) -> dict[str, str]:
    workspace = plan.workspace
    updates = sorted({row["num_updates"] for row in rows if row["kind"] == "run"})
    facts = {"command": f"`{command}`"}
    facts |= {
        f"{split} set": _size(workspace.data_dir / split) for split in ("train", "valid", "test")
    }
    if updates:
        facts["updates of every student"] = " to ".join(map(str, sorted({updates[0], updates[-1]})))
    facts["processor"] = f"{cpu_name()}, one thread a job"
    return facts | {name: f"`{value}`" for name, value in environment().items()}


def _size(data_dir: Path) -> str:
    data = read_data_dir(data_dir)
    seconds = [float(row["seconds"]) for row in data.metadata.values() if "seconds" in row]
    minutes = f", {sum(seconds) / 60:.1f} minutes" if len(seconds) == len(data) else ""
    return f"{len(data)} utterances{minutes}, {len(set(data.speaker.values()))} speakers"


def _write_utterances(scored: list[dict], columns: list[str], path: Path) -> None:
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", "seed", "utterance", *columns])
        for record in scored:
            result = record["result"]
            for utterance, scores in record["scores"].items():
                values = [scores[column] for column in columns]
                cells = ["" if value is None else f"{value:.4f}" for value in values]
                writer.writerow([result["arm"], result.get("seed", ""), utterance, *cells])
