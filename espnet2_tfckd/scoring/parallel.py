"""Scoring whole data sets with several processes, resumable after a kill.

Every system has a journal, ``utterances.jsonl`` in its scoring directory: one line an utterance,
appended as soon as it is scored. A later run uses a line again as long as the audio files that it
was computed from are unchanged, and adds only what is missing.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.datadir import file_of
from espnet2_tfckd.scoring.audio import read_channel, read_scp
from espnet2_tfckd.scoring.metrics import PROTOCOLS

JOURNAL = "utterances.jsonl"
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


def named(utterances: Sequence[str]) -> str:
    """Spell out at most ten of the utterances, and count the rest."""
    rest = len(utterances) - MAX_NAMED
    return ", ".join(utterances[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _stamp(entry: str) -> list:
    status = file_of(entry).stat()
    return [entry, status.st_size, status.st_mtime_ns]


def _sources(system: System, references: dict[str, str], ref_channel: int) -> dict[str, dict]:
    """What each utterance's scores depend on, after checking that every file is there."""
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
        utt: {
            "reference": _stamp(reference),
            "estimate": _stamp(estimates[utt]),
            "ref_channel": ref_channel,
        }
        for utt, reference in references.items()
    }


def read_journal(path: Path) -> dict[str, dict]:
    """Read the finished lines of a journal; a line torn by a kill is passed over."""
    records = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        records[record["id"]] = record
    return records


def _write_journal(path: Path, records: Sequence[dict]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records))


def append_to_journal(system: System, record: dict) -> None:
    """Keep the scores of one utterance; they replace what the journal has of it."""
    with (system.score_dir / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(record) + "\n")


def score_utterance(utterance: str, source: dict, protocols: Sequence[str]) -> dict:
    """Score one utterance by some protocols.

    Args:
        utterance: Its id.
        source: ``reference`` and ``estimate`` (scp entry first) and ``ref_channel``.
        protocols: Keys of :data:`espnet2_tfckd.scoring.metrics.PROTOCOLS`.

    Returns:
        ``id``, ``source``, ``scores`` (None where a metric cannot score the utterance) and
        ``failed`` (the reason for each of these).

    Raises:
        ValueError: The estimate does not fit the reference or is not finite; names the utterance.
        RuntimeError: A metric broke down; names the utterance.
    """
    reference, sample_rate = read_channel(source["reference"][0], source["ref_channel"])
    estimate, estimate_rate = read_channel(source["estimate"][0], source["ref_channel"])
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
    return {"id": utterance, "source": source, "scores": scores, "failed": failed}


def end_with_parent() -> None:
    """Let a worker end when the command is killed, rather than wait for work forever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _single_threaded_workers(num_jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes whose numerical libraries start with one thread each."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    pool = ProcessPoolExecutor(
        num_jobs, multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _missing(record: dict, protocols: Sequence[str]) -> list[str]:
    from espnet2_tfckd.scoring.metrics import PROTOCOLS

    return [
        name for name in protocols if not PROTOCOLS[name].columns.keys() <= record["scores"].keys()
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
        known = read_journal(system.score_dir / JOURNAL)
        of_system = records[system.name] = {}
        for utt, source in sources.items():
            record = known.get(utt, {})
            if record.get("source") != source:
                record = {"id": utt, "source": source, "scores": {}, "failed": {}}
            of_system[utt] = record
            if missing := _missing(record, protocols):
                tasks.append((system, utt, source, missing))
        # only valid lines stay, so that appending to the journal is enough from here on
        _write_journal(
            system.score_dir / JOURNAL,
            [record for record in of_system.values() if record["scores"]],
        )
    problems = []
    if tasks:
        with _single_threaded_workers(min(num_jobs, len(tasks))) as pool:
            futures = {pool.submit(score_utterance, *task[1:]): task for task in tasks}
            for future in tqdm(as_completed(futures), "scoring", len(futures), unit="utt"):
                system, utt, *_ = futures[future]
                try:
                    new = future.result()
                except BrokenProcessPool as error:
                    raise RuntimeError(
                        f"a scoring process ended unexpectedly near {system.name}, {utt} "
                        "(out of memory?); run the same command again, with fewer jobs, to continue"
                    ) from error
                except (ValueError, OSError) as error:
                    problems.append(f"{system.name}: {error}")
                    continue
                record = records[system.name][utt]
                record["scores"].update(new["scores"])
                record["failed"].update(new["failed"])
                append_to_journal(system, record)
    for system in systems:
        scored = [record for record in records[system.name].values() if record["scores"]]
        _write_journal(system.score_dir / JOURNAL, scored)
    if problems:
        raise ValueError(
            f"{len(problems)} estimates cannot be scored (all others are kept):\n  "
            + "\n  ".join(sorted(problems)[:MAX_NAMED])
        )
    return {name: list(of_system.values()) for name, of_system in records.items()}
