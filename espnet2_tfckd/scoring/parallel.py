"""Scoring whole data sets with several processes, resumable after a kill.

Every system has a journal, ``utterances.jsonl``, in its scoring directory. It has one line for each
utterance, which is appended as soon as the utterance is scored. A later run uses a line again if
audio and code are the same, and adds only what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet2_tfckd.data.datadir import read_scp
from espnet2_tfckd.data.entries import file_of
from espnet2_tfckd.data.freshness import change, made_of, named_files
from espnet2_tfckd.scoring.journal import (
    JOURNAL,
    append_to_journal,
    read_journal,
    write_journal,
)
from espnet2_tfckd.scoring.metrics import PROTOCOLS
from espnet2_tfckd.scoring.workers import ScoringTask, score_all

MAX_NAMED = 10  # utterances that an error message names


@dataclass(frozen=True)
class System:
    """A system whose estimates are scored.

    Attributes:
        name: Its name in the tables.
        estimate_scp: Its estimates, ``utterance entry`` lines.
        score_dir: Directory of its per-utterance scores.
    """

    name: str
    estimate_scp: Path
    score_dir: Path

    @property
    def journal(self) -> Path:
        """File of its scores."""
        return self.score_dir / JOURNAL


def named(utterances: Sequence[str]) -> str:
    """Name at most ten of the utterances, and count the others."""
    rest = len(utterances) - MAX_NAMED
    return ", ".join(utterances[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _sources(system: System, references: dict[str, str], ref_channel: int) -> dict[str, dict]:
    """The audio file of each utterance, after checking that every file is there."""
    estimates = read_scp(system.estimate_scp)
    for problem, ids in (
        ("has no estimate of", references.keys() - estimates.keys()),
        ("has estimates that the data set does not know:", estimates.keys() - references.keys()),
        (
            "points to files that are not there, for",
            {utt for utt in references if not file_of(estimates.get(utt, "")).is_file()},
        ),
    ):
        if ids:
            raise ValueError(
                f"{system.name}: {system.estimate_scp} {problem} {named(sorted(ids))}; "
                "enhance the data set again"
            )
    return {
        utt: {"reference": reference, "estimate": estimates[utt], "ref_channel": ref_channel}
        for utt, reference in references.items()
    }


def _made_of(utterance: str, source: dict, before: dict | None) -> dict:
    files = {
        name: path
        for kind in ("reference", "estimate")
        for name, path in named_files({utterance: source[kind]}, kind).items()
    }
    return made_of(files, {"ref_channel": source["ref_channel"]}, before=before)


def _missing(record: dict, protocols: Sequence[str]) -> list[str]:
    code = record.get("code", {})
    return [
        name
        for name in protocols
        if code.get(name) != PROTOCOLS[name].code
        or not set(PROTOCOLS[name].columns) <= record["scores"].keys()
    ]


def score_systems(
    systems: Sequence[System],
    references: dict[str, str],
    protocols: Sequence[str],
    num_jobs: int,
    ref_channel: int = 0,
) -> dict[str, list[dict]]:
    """Score all utterances of several systems, in parallel and with a progress bar.

    Args:
        systems: The systems; their earlier scores are kept.
        references: scp entry of each utterance's reference.
        protocols: Keys of :data:`espnet2_tfckd.scoring.metrics.PROTOCOLS`.
        num_jobs: Number of processes, each on one thread.
        ref_channel: Channel to score of files with several.

    Returns:
        For each system's name the records of :func:`score_utterance`, in the order of the
        references.

    Raises:
        FileNotFoundError: If a list of estimates or a reference is not there.
        ValueError: If estimates are missing, or do not fit their references; the message names the
            utterances. All others are scored and kept first.
    """
    from tqdm import tqdm

    records, tasks = {}, []
    for system in systems:
        sources = _sources(system, references, ref_channel)
        known = read_journal(system.journal)
        of_system = records[system.name] = {}
        stale: list[str] = []
        for utt, source in sources.items():
            record = known.get(utt, {})
            made = _made_of(utt, source, record.get("made_of"))
            if reason := change(record.get("made_of"), made):
                if record:
                    stale.append(reason)
                record = {"id": utt, "scores": {}, "failed": {}, "code": {}}
            record |= {"source": source, "made_of": made}
            of_system[utt] = record
            if missing := _missing(record, protocols):
                tasks.append(ScoringTask(system, utt, source, missing))
        if stale:
            more = " and the like" if len(stale) > 1 else ""
            print(f"{system.name}: {len(stale)} utterances scored again, since {stale[0]}{more}")
        # only valid lines stay, so that appending to the journal is enough from here on
        write_journal(
            system.journal,
            [record for record in of_system.values() if record["scores"]],
        )
    if not tasks:
        print("scores: up to date")
    problems = []
    for task, outcome in tqdm(score_all(tasks, num_jobs), "scoring", len(tasks), unit="utt"):
        if isinstance(outcome, Exception):
            problems.append(f"{task.system.name}: {outcome}")
            continue
        record = records[task.system.name][task.utterance]
        tried = {column for name in task.protocols for column in PROTOCOLS[name].columns}
        record["failed"] = {key: why for key, why in record["failed"].items() if key not in tried}
        for part in ("scores", "failed", "code"):
            record[part] = record.get(part, {}) | outcome[part]
        append_to_journal(task.system.journal, record)
    for system in systems:
        scored = [record for record in records[system.name].values() if record["scores"]]
        write_journal(system.journal, scored)
    if problems:
        raise ValueError(
            f"{len(problems)} estimates cannot be scored (all others are kept):\n  "
            + "\n  ".join(sorted(problems)[:MAX_NAMED])
        )
    return {name: list(of_system.values()) for name, of_system in records.items()}
