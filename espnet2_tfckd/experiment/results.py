"""From finished jobs to ``experiment.json``, ``experiment.md``, ``experiment.png`` and a CSV.

These files are enough to take over the jobs without their directories, for anyone who has the same
data. The teacher of all distillations lies beside them.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from espnet2_tfckd.cli import atomic_write, read_json, write_json
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.experiment.comparison import comparisons
from espnet2_tfckd.experiment.plan import Plan
from espnet2_tfckd.experiment.report import draw_differences, report_md
from espnet2_tfckd.models.configuration import CHECKPOINT
from espnet2_tfckd.models.cost import cpu_name
from espnet2_tfckd.scoring.results import environment

TEACHER = "teacher"  # folder of the teacher beside the results


def write_results(plan: Plan, results_dir: Path, command: str) -> None:
    """Write the results of an experiment so far.

    Args:
        plan: Of the whole experiment.
        results_dir: Directory of the four files and of the teacher, if the experiment trained it.
        command: The command line, for the report.
    """
    experiment = plan.workspace.experiment
    records = [(job, record) for job in plan.jobs() if (record := job.record())]
    scored = [record for job, record in records if job.kind in ("reference", "run")]
    scored.sort(key=lambda record: _place(record["result"], list(experiment.arms)))
    rows = [_row(record) for record in scored] + _tuning_rows(plan)
    scores: dict[str, dict[int, dict]] = {}
    for record in scored:
        if record["result"]["kind"] == "run":
            of_arm = scores.setdefault(record["result"]["arm"], {})
            of_arm[record["result"]["seed"]] = record["scores"]
    names = (experiment.columns, experiment.baseline, experiment.method)
    rows += comparisons(scores, *names)
    write_json(results_dir / "experiment.json", rows)
    with atomic_write(results_dir / "experiment.md") as temporary:
        facts = _facts(plan, rows, command)
        temporary.write_text(report_md(rows, *names, facts), encoding="utf-8")
    draw_differences(rows, *names[:2], results_dir / "experiment.png")
    _write_utterances(scored, experiment.columns, results_dir / "utterances.csv")
    if plan.has_teacher() and not plan.workspace.given_teacher:
        for name in ("config.yaml", CHECKPOINT):
            with atomic_write(results_dir / TEACHER / name) as copy:
                shutil.copyfile(plan.workspace.teacher_exp / name, copy)


def take_over(plan: Plan, results_dir: Path) -> int:
    """Mark jobs as finished that are in the results with the present inputs.

    Args:
        plan: Of the whole experiment.
        results_dir: Directory that :func:`write_results` wrote to.

    Returns:
        Number of jobs taken over; jobs that are finished here are left as they are.

    Raises:
        FileNotFoundError: If the directory has no results.
        ValueError: If the results cannot be read.
    """
    path = results_dir / "experiment.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: there are no results to take over")
    rows = {_identity(row): row for row in read_json(path, default=[]) if "fingerprint" in row}
    scores = _read_utterances(results_dir / "utterances.csv")
    count = 0
    while True:  # a finished search brings up the run that waited for its weight
        known = [(job, rows.get((job.kind, job.arm, job.fingerprint))) for job in plan.jobs()]
        new = [(job, row) for job, row in known if row and not job.record()]
        if not new:
            return count
        for job, row in new:
            result = {key: row[key] for key in row if key not in ("fingerprint", "chosen")}
            of_job = scores.get((job.arm, job.seed), {}) if job.test_dir else {}
            if job.test_dir and len(of_job) != row["num_utterances"]:
                raise ValueError(
                    f"{results_dir}/utterances.csv has {len(of_job)} of the "
                    f"{row['num_utterances']} utterances of {job.name}: get both files again"
                )
            job.finish(result, of_job)
        count += len(new)


def _row(record: dict) -> dict:
    return {**record["result"], "fingerprint": record["fingerprint"]}


def _identity(row: dict) -> tuple[str, str, str]:
    return row["kind"], row["arm"], row["fingerprint"]


def _place(result: dict, arms: list[str]) -> tuple:
    """Sort noisy and teacher first, then the arms in the order of the YAML."""
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
                row = _row(record)
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


def _read_utterances(path: Path) -> dict[tuple[str, int | None], dict[str, dict]]:
    """Scores of each utterance by arm and seed, as :func:`_write_utterances` wrote them."""
    scores: dict[tuple[str, int | None], dict[str, dict]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            arm, seed, utterance = (row.pop(key) for key in ("arm", "seed", "utterance"))
            values = {column: float(text) if text else None for column, text in row.items()}
            scores.setdefault((arm, int(seed) if seed else None), {})[utterance] = values
    return scores
