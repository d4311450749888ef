"""The results of systems on data sets: ``results.json`` and ``RESULTS.md``."""

from __future__ import annotations

import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from textwrap import fill

from espnet2_tfckd.cli import atomic_write, read_json, write_json
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.freshness import digest_of
from espnet2_tfckd.scoring.differences import (
    Comparison,
    comparison_sentences,
    differences_md,
    paired_differences,
)
from espnet2_tfckd.scoring.parallel import System
from espnet2_tfckd.scoring.tables import (
    group_utterances,
    improvements,
    merge,
    results_md,
    summarise,
    terminal_table,
)


def environment() -> dict[str, str]:
    """The environment of the scores: date, versions, and the revision of the code if known."""
    described = {
        "date": datetime.now().astimezone().strftime("%a %b %d %H:%M:%S %Z %Y"),
        "python version": platform.python_version(),
        "espnet version": f"espnet {version('espnet')}",
        "pytorch version": f"pytorch {version('torch')}",
    }
    package = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", package, *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    # an installed package may lie inside another project's repository
    if git("ls-files", "--error-unmatch", Path(__file__).name) is not None:
        described["Git hash"] = git("log", "-1", "--format=%H")
        described["Commit date"] = git("log", "-1", "--format=%ad")
    return {name: value for name, value in described.items() if value}


def model_dir(estimate_scp: Path) -> Path | None:
    """Directory of the model that made these estimates; None if they are not in ``enhanced_*/``."""
    directory = estimate_scp.parent
    return directory.parent if directory.name.startswith("enhanced_") else None


def journalled(systems: dict[str, Path], dataset: str, results_dir: str | Path) -> list[System]:
    """The systems with the directories of their per-utterance scores.

    These are ``scoring_<dataset>`` in the experiment directory of a model, and below
    ``results_dir`` for others, such as the mixture.
    """
    return [
        System(name, scp, (model_dir(scp) or Path(results_dir) / name) / f"scoring_{dataset}")
        for name, scp in systems.items()
    ]


def read_results(results_dir: str | Path) -> list[dict]:
    """The objects of ``results.json``; empty if the file is not there.

    Raises:
        ValueError: If the file is not JSON, or holds something else.
    """
    path = Path(results_dir) / "results.json"
    rows = read_json(path, default=[])
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.keys() >= {"system", "dataset", "config"} for row in rows
    ):
        raise ValueError(f"{path} does not hold the results of systems: delete it and run again")
    return rows


def update_results(
    data_dir: str | Path,
    dataset: str,
    systems: dict[str, Path],
    records: dict[str, list[dict]],
    results_dir: str | Path,
    comparison: Comparison | None = None,
) -> list[dict]:
    """Add the scores of systems on a data set to ``RESULTS.md`` and ``results.json``.

    Args:
        data_dir: Data directory with the references in ``spk1.scp``, and optionally
            ``metadata.csv`` for improvements by SNR and noise.
        dataset: Name of the data set in the tables.
        systems: Estimates (scp) by the name of their system.
        records: From :func:`espnet2_tfckd.scoring.parallel.score_systems`.
        results_dir: Directory of both files.
        comparison: Two of the systems whose difference is wanted too.

    Returns:
        The objects of ``results.json``.

    Raises:
        ValueError: If the metadata, the earlier results or those of an experiment cannot be read.
    """
    results_dir = Path(results_dir)
    groups = group_utterances(read_data_dir(data_dir).metadata)
    mixture_scp = (Path(data_dir) / "wav.scp").resolve()
    mixture = next((n for n, scp in systems.items() if scp.resolve() == mixture_scp), None)
    new, references = [], _references(records)
    for name, of_system in records.items():
        exp_dir = model_dir(systems[name])
        costs = read_json(exp_dir / "profile.json", default={}) if exp_dir else {}
        row = summarise(name, dataset, of_system, costs)
        row["config"] = str(exp_dir / "config.yaml") if exp_dir else None
        row["references"] = references
        if mixture and name != mixture and groups:
            row["improvement"] = improvements(of_system, records[mixture], groups)
        if comparison and name == comparison.system:
            differences = paired_differences(of_system, records[comparison.other])
            row["comparison"] = {"with": comparison.other, **differences}
            row["over_seeds"] = comparison.over_seeds()
        new.append(row)
    earlier = read_results(results_dir)
    stale = [r for r in earlier if r["dataset"] == dataset and r.get("references") != references]
    if gone := [row["system"] for row in stale if row["system"] not in records]:
        print(f"left out, since the references of {dataset} have changed: {', '.join(gone)}")
    rows = merge([row for row in earlier if row not in stale], new)
    configs = {row["system"]: row["config"] for row in rows if row["config"]}
    write_json(results_dir / "results.json", rows)
    with atomic_write(results_dir / "RESULTS.md") as temporary:
        text = results_md(rows, environment(), configs) + differences_md(rows)
        temporary.write_text(text, encoding="utf-8")
    return rows


def print_results(rows: list[dict], dataset: str, results_dir: str | Path) -> None:
    """Print the table of one data set, its comparison, and where all results are."""
    of_dataset = [row for row in rows if row["dataset"] == dataset]
    print(terminal_table(of_dataset))
    for sentence in comparison_sentences(of_dataset):
        text = sentence.replace("`", "")
        print(fill(text, 100, break_on_hyphens=False, break_long_words=False), end="\n\n")
    print(f"Results: {Path(results_dir) / 'RESULTS.md'}")


def _references(records: dict[str, list[dict]]) -> str:
    """A digest that identifies the references against which systems were scored."""
    return digest_of(
        sorted(
            (name, state[0])
            for record in next(iter(records.values()))
            for name, state in record["made_of"]["files"].items()
            if name.startswith(f"{record['id']} reference")
        )
    )
