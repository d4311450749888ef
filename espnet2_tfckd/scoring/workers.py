"""Scoring utterances in separate processes, so that a library that crashes does no harm."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from espnet2_tfckd.data.entries import read_channel
from espnet2_tfckd.processes import THREAD_VARIABLES, end_worker_with_parent
from espnet2_tfckd.scoring.metrics import PROTOCOLS


def score_utterance(utterance: str, source: dict, protocols: Sequence[str]) -> dict:
    """Score one utterance by some protocols.

    Args:
        utterance: Its id.
        source: The scp entries ``reference`` and ``estimate``, and ``ref_channel``.
        protocols: Keys of :data:`espnet2_tfckd.scoring.metrics.PROTOCOLS`.

    Returns:
        ``scores`` (None where a metric cannot score the utterance), ``failed`` (the reason for each
        of these) and ``code`` (by protocol).

    Raises:
        ValueError: If the estimate does not fit the reference or is not finite; the message names
            the utterance.
        RuntimeError: If a metric fails; the message names the utterance.
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
            raise RuntimeError(f"{utterance}: {name} failed: {error!r}") from error
        for key, value in values.items():
            if value is not None and not math.isfinite(value):
                failed[key] = f"the value is {value}"
                value = None
            scores[key] = value
    code = {name: PROTOCOLS[name].code for name in protocols}
    return {"scores": scores, "failed": failed, "code": code}


@contextmanager
def _single_threaded_workers(num_jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes whose numerical libraries start with one thread each.

    If an exception such as Ctrl-C leaves the block, the processes are ended at once.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    others = set(multiprocessing.active_children())
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    pool = ProcessPoolExecutor(
        num_jobs, multiprocessing.get_context("spawn"), initializer=end_worker_with_parent
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
class ScoringTask:
    """The scores of an utterance that are missing.

    Attributes:
        system: The system whose estimate it is; returned with the outcome.
        utterance: Its id.
        source: See :func:`score_utterance`.
        protocols: Keys of :data:`espnet2_tfckd.scoring.metrics.PROTOCOLS`.
    """

    system: Any
    utterance: str
    source: dict
    protocols: Sequence[str]


def score_all(
    tasks: Sequence[ScoringTask], num_jobs: int
) -> Iterator[tuple[ScoringTask, dict | Exception]]:
    """Score in several processes; if a library crashes, only its own score is lost.

    Args:
        tasks: What to score.
        num_jobs: Number of processes, each on one thread.

    Yields:
        Each task with the result of :func:`score_utterance`, or the error that it raised.
    """
    pending = deque(tasks)
    while pending:
        running: dict[Future, ScoringTask] = {}
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


def _submit(pool: ProcessPoolExecutor, task: ScoringTask, protocols: Sequence[str]) -> Future:
    return pool.submit(score_utterance, task.utterance, task.source, protocols)


def _result(future: Future) -> dict | Exception:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        return error


def _score_apart(task: ScoringTask) -> dict | Exception:
    """Score an utterance with each metric in a separate process."""
    record = {"scores": {}, "failed": {}, "code": {}}
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
