"""Scoring whole data sets with several processes, resumable after a kill.

Every system has a journal, ``utterances.jsonl`` in its scoring directory: one line an utterance,
appended as soon as it is scored. A later run uses a line again as long as it is made of the same
audio by the same code, and adds only what is missing.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from espnet2_tfckd.data.freshness import change, made_of, named_files
from espnet2_tfckd.datadir import file_of
from espnet2_tfckd.scoring.audio import read_channel, read_scp
from espnet2_tfckd.scoring.journal import (
    JOURNAL,
    append_to_journal,
    read_journal,
    write_journal,
)
from espnet2_tfckd.scoring.metrics import PROTOCOLS

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MAX_NAMED = 10  # utterances that an error message spells out


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
    """Spell out at most ten of the utterances, and count the rest."""
    rest = len(utterances) - MAX_NAMED
    return ", ".join(utterances[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _sources(system: System, references: dict[str, str], ref_channel: int) -> dict[str, dict]:
    """Where the audio of each utterance lies, after checking that every file is there."""
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


def score_utterance(utterance: str, source: dict, protocols: Sequence[str]) -> dict:
    """Score one utterance by some protocols.

    Args:
        utterance: Its id.
        source: The scp entries ``reference`` and ``estimate``, and ``ref_channel``.
        protocols: Keys of :data:`espnet2_tfckd.scoring.metrics.PROTOCOLS`.

    Returns:
        ``id``, ``source``, ``scores`` (None where a metric cannot score the utterance), ``failed``
        (the reason for each of these) and ``code`` (by protocol).

    Raises:
        ValueError: The estimate does not fit the reference or is not finite; names the utterance.
        RuntimeError: A metric broke down; names the utterance.
    """
    reference, sample_rate = read_channel(source["reference"], source["ref_channel"])
    estimate, estimate_rate = read_channel(source["estimate"], source["ref_channel"])
    if estimate_rate != sample_rate:
        raise ValueError(f"{utterance}: estimate at {estimate_rate} Hz, reference {sample_rate} Hz")
    if len(estimate) != len(reference):
        raise ValueError(
            f"{utterance}: estimate of {len(estimate)} samples, reference {len(reference)}"
        )
    scores, failed = {}, {}
    for name in protocols:
        protocol = PROTOCOLS[name]
        try:
            values = protocol(reference, estimate, sample_rate)
        except ValueError as error:
            values = dict.fromkeys(protocol.columns)
            failed.update(dict.fromkeys(protocol.columns, str(error)))
        except Exception as error:
            raise RuntimeError(f"{utterance}: {name} broke down: {error!r}") from error
        for key, value in values.items():
            if value is not None and not math.isfinite(value):
                failed[key] = f"the value is {value}"
                value = None
            scores[key] = value
    code = {name: PROTOCOLS[name].code for name in protocols}
    return {"id": utterance, "source": source, "scores": scores, "failed": failed, "code": code}


def end_with_parent() -> None:
    """Let a worker end when the command is killed, rather than wait for work forever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _single_threaded_workers(num_jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes whose numerical libraries start with one thread each.

    They are ended at once when the block is left by an exception, such as Ctrl-C.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    others = set(multiprocessing.active_children())
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    pool = ProcessPoolExecutor(
        num_jobs, multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@dataclass(frozen=True)
class _Task:
    """What is missing of an utterance of a system."""

    system: System
    utterance: str
    source: dict
    protocols: Sequence[str]


def _outcomes(tasks: Sequence[_Task], num_jobs: int) -> Iterator[tuple[_Task, dict | Exception]]:
    """Score in several processes; a library that crashes loses its own score only."""
    pending = deque(tasks)
    while pending:
        running: dict[Future, _Task] = {}
        try:
            with _single_threaded_workers(min(num_jobs, len(pending))) as pool:
                while pending or running:
                    while pending and len(running) < num_jobs:
                        running[_submit(pool, pending[0], pending[0].protocols)] = pending[0]
                        pending.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        outcome = _result(future)
                        yield running.pop(future), outcome
        except BrokenProcessPool:
            for task in running.values():  # one of them crashed
                yield task, _score_apart(task)


def _submit(pool: ProcessPoolExecutor, task: _Task, protocols: Sequence[str]) -> Future:
    return pool.submit(score_utterance, task.utterance, task.source, protocols)


def _result(future: Future) -> dict | Exception:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        return error


def _score_apart(task: _Task) -> dict | Exception:
    """Score an utterance with each metric in a process of its own."""
    record = {"id": task.utterance, "source": task.source, "scores": {}, "failed": {}, "code": {}}
    for name in task.protocols:
        try:
            with _single_threaded_workers(1) as pool:
                outcome = _result(_submit(pool, task, [name]))
        except BrokenProcessPool:
            columns = PROTOCOLS[name].columns
            reason = f"{name} crashed on it, or ran out of memory"
            outcome = {
                "scores": dict.fromkeys(columns),
                "failed": dict.fromkeys(columns, reason),
                "code": {name: PROTOCOLS[name].code},
            }
        if isinstance(outcome, Exception):
            return outcome
        for part in ("scores", "failed", "code"):
            record[part] |= outcome[part]
    return record


def _missing(record: dict, protocols: Sequence[str]) -> list[str]:
    code = record.get("code", {})
    return [
        name
        for name in protocols
        if code.get(name) != PROTOCOLS[name].code
        or not PROTOCOLS[name].columns.keys() <= record["scores"].keys()
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
        systems: The systems; what they have been scored by before is kept.
        references: scp entry of each utterance's reference.
        protocols: Keys of :data:`espnet2_tfckd.scoring.metrics.PROTOCOLS`.
        num_jobs: Number of processes, each on one thread.
        ref_channel: Channel to score of files with several.

    Returns:
        For each system's name the records of :func:`score_utterance`, in the order of the
        references.

    Raises:
        FileNotFoundError: A list of estimates or a reference is not there.
        ValueError: Estimates are missing, or do not fit their references; names the utterances.
            All others are scored and kept first.
    """
    from tqdm import tqdm

    records, tasks = {}, []
    for system in systems:
        sources = _sources(system, references, ref_channel)
        known = read_journal(system.journal)
        of_system = records[system.name] = {}
        for utt, source in sources.items():
            record = known.get(utt, {})
            made = _made_of(utt, source, record.get("made_of"))
            if change(record.get("made_of"), made):
                record = {"id": utt, "scores": {}, "failed": {}, "code": {}}
            record |= {"source": source, "made_of": made}
            of_system[utt] = record
            if missing := _missing(record, protocols):
                tasks.append(_Task(system, utt, source, missing))
        # only valid lines stay, so that appending to the journal is enough from here on
        write_journal(
            system.journal,
            [record for record in of_system.values() if record["scores"]],
        )
    problems = []
    for task, outcome in tqdm(_outcomes(tasks, num_jobs), "scoring", len(tasks), unit="utt"):
        if isinstance(outcome, Exception):
            problems.append(f"{task.system.name}: {outcome}")
            continue
        record = records[task.system.name][task.utterance]
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
