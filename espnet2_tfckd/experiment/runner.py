"""Running the jobs of an experiment, several at a time."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from espnet2_tfckd.experiment.jobs import Command, Job, Usage
from espnet2_tfckd.experiment.plan import Plan
from espnet2_tfckd.processes import THREAD_VARIABLES, end_child_with_parent
from espnet2_tfckd.scoring.columns import SCORES
from espnet2_tfckd.training.log import format_seconds
from espnet2_tfckd.training.process import POLL_SECONDS


@dataclass
class Process:
    """A running process, its job, and the job's further commands."""

    job: Job
    rest: Generator[Command, Usage, dict]
    process: subprocess.Popen
    job_began: float
    began: float
    is_elsewhere: bool = False

    def usage(self) -> Usage | None:
        """Resources that the process and its children used; None until it has ended."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        wall_seconds = time.monotonic() - self.began
        if self.is_elsewhere:
            return Usage(None, wall_seconds, None)
        kib_or_bytes = 1024 if sys.platform == "linux" else 1024**2
        return Usage(
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            wall_seconds=wall_seconds,
            peak_mb=usage.ru_maxrss / kib_or_bytes,
        )


class Runner:
    """Runs the jobs of a plan, several at a time.

    Args:
        plan: The jobs.
        nj: Number of jobs at a time, each on one thread.
        seconds: Time after which no further job is started; None for no limit.
        on_result: Called whenever a job is finished.
        slurm: Options with which srun is to ask for a job of Slurm for each; None to run them here.
    """

    def __init__(
        self,
        plan: Plan,
        nj: int,
        seconds: float | None,
        on_result: Callable[[], None],
        slurm: str | None = None,
    ):
        self.plan, self.nj, self.on_result = plan, nj, on_result
        self.launcher = [] if slurm is None else ["srun", "--ntasks=1", *shlex.split(slurm)]
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.running: list[Process] = []
        self.failed: dict[Path, Job] = {}
        self.minutes: dict[str, list[float]] = {}

    def run(self) -> None:
        """Run jobs until none is left to start and all have ended."""
        try:
            self._start_jobs()
            while self.running:
                time.sleep(POLL_SECONDS)
                ended = [(p, usage) for p in self.running if (usage := p.usage())]
                for process, usage in ended:
                    self.running.remove(process)
                    self._go_on(process, usage)
                if ended:
                    self._start_jobs()
        finally:
            for process in self.running:
                process.process.terminate()
                process.process.wait()

    def missing(self) -> list[str]:
        """Names of the jobs that are neither finished nor failed."""
        jobs = self.plan.jobs()
        names = [job.name for job in _unfinished(jobs) if job.directory not in self.failed]
        to_come = self.plan.num_to_come(jobs)
        return names + (
            [f"{to_come} runs that wait for the teacher or a weight"] if to_come else []
        )

    def _start_jobs(self) -> None:
        while len(self.running) < self.nj and not self._is_late() and (job := self._next_job()):
            if changed := job.changed_inputs():
                print(f"{job.name}: redone, since {'; '.join(changed)}")
            done, total = self._progress()
            print(f"[{done + len(self.running) + 1}/{total}] {job.name}: started", flush=True)
            self._advance(job, job.run(), None, time.monotonic())

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _next_job(self) -> Job | None:
        busy = {process.job.directory for process in self.running} | self.failed.keys()
        jobs = _unfinished(self.plan.jobs())
        return next((job for job in jobs if job.directory not in busy), None)

    def _go_on(self, process: Process, usage: Usage) -> None:
        if process.process.returncode:
            self._fail(process.job)
        else:
            self._advance(process.job, process.rest, usage, process.job_began)

    def _fail(self, job: Job) -> None:
        self.failed[job.directory] = job
        print(f"{job.name}: failed, see {job.log}", file=sys.stderr, flush=True)

    def _advance(
        self, job: Job, rest: Generator[Command, Usage, dict], usage: Usage | None, began: float
    ) -> None:
        """Start the next process of a job, or end the job."""
        try:
            command = rest.send(usage)
        except StopIteration as end:
            self._finish(job, end.value, (time.monotonic() - began) / 60)
        except (ValueError, OSError) as error:
            with open(job.log, "a", encoding="utf-8") as log:
                log.write(f"error: {error}\n")
            self._fail(job)
        else:
            process = start(command, job.log, self.launcher)
            now = time.monotonic()
            self.running.append(Process(job, rest, process, began, now, bool(self.launcher)))

    def _finish(self, job: Job, record: dict, minutes: float) -> None:
        self.on_result()
        self.minutes.setdefault(job.kind, []).append(minutes)
        done, total = self._progress()
        figure = headline(record["result"], self.plan.workspace.experiment.columns)
        print(
            f"[{done}/{total}] {job.name}: {figure}{minutes:.1f} min; "
            f"about {format_seconds(60 * self._minutes_left())} left",
            flush=True,
        )

    def _progress(self) -> tuple[int, int]:
        """Number of finished jobs, and of all jobs known so far."""
        jobs = self.plan.jobs()
        return len(jobs) - len(_unfinished(jobs)), len(jobs) + self.plan.num_to_come(jobs)

    def _minutes_left(self) -> float:
        """Estimate by the mean of each kind of job; a new kind counts as the longest."""
        jobs = self.plan.jobs()
        left = Counter(job.kind for job in _unfinished(jobs))
        left["run"] += self.plan.num_to_come(jobs)
        means = {kind: fmean(minutes) for kind, minutes in self.minutes.items()}
        longest = max(means.values())
        return sum(n * means.get(kind, longest) for kind, n in left.items()) / self.nj


def _unfinished(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if not job.record()]


def headline(result: dict, columns: Sequence[str]) -> str:
    """The value of a result that is printed: its first score, or its validation loss."""
    for column, name in {columns[0]: SCORES[columns[0]].name, "valid_loss": "valid loss"}.items():
        if result.get(column) is not None:
            return f"{name} {result[column]:.3f}, "
    return ""


def start(command: Command, log: Path, launcher: Sequence[str] = ()) -> subprocess.Popen:
    """Start a process on one thread that appends to a log; it ends with the present process.

    Args:
        command: What to run.
        log: File to append to.
        launcher: What starts it on another machine; such as Slurm's srun.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), "PYTHONUNBUFFERED": "1"}
    module = ["-m", f"espnet2_tfckd.stages.{command.stage}", *command.arguments]
    with open(log, "ab") as stream:
        return subprocess.Popen(
            [*launcher, sys.executable, *module],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            preexec_fn=end_child_with_parent if sys.platform == "linux" else None,
        )
