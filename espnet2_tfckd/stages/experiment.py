"""Measure whether distillation schemes improve a student: all arms, tuned, with several seeds.

The YAML of the experiment lists the arms. Weights are searched on the validation set. Students are
trained, and the test set is enhanced and scored. Differences to the arm without distillation are
written with confidence intervals. A rerun skips finished jobs, goes on with interrupted ones, and
repeats those whose inputs have changed.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from espnet2_tfckd.cli import at_least_one, run_command
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.experiment.plan import Plan
from espnet2_tfckd.experiment.results import TEACHER, take_over, write_results
from espnet2_tfckd.experiment.runner import Runner
from espnet2_tfckd.experiment.settings import Arm, Experiment, read_experiment
from espnet2_tfckd.experiment.workspace import Workspace
from espnet2_tfckd.models.configuration import CHECKPOINT
from espnet2_tfckd.models.inference import model_files
from espnet2_tfckd.processes import cpu_cores


def selected(experiment: Experiment, arms: str, seeds: str) -> list[Arm]:
    """The arms and seeds that were asked for; an empty text asks for all.

    Raises:
        ValueError: If an arm or a seed is unknown.
    """
    names = arms.split() or list(experiment.arms)
    if unknown := [name for name in names if name not in experiment.arms]:
        raise ValueError(f"--arms: {' '.join(unknown)} is not among {' '.join(experiment.arms)}")
    if len(set(names)) < len(names):
        raise ValueError(f"--arms: {arms} names an arm twice")
    wanted = set(seeds.split())
    known = {str(seed) for name in names for seed in experiment.arms[name].seeds}
    if unknown := sorted(wanted - known):
        raise ValueError(f"--seeds: {' '.join(unknown)} is not a seed of {' '.join(names)}")
    chosen = [
        replace(arm, seeds=tuple(s for s in arm.seeds if not wanted or str(s) in wanted))
        for name, arm in experiment.arms.items()
        if name in names
    ]
    return [arm for arm in chosen if arm.seeds]


def write_outputs(plan: Plan, data_dir: Path, nj: int) -> None:
    """Let those teachers that are commands enhance the training set, for arms that need it now.

    Raises:
        RuntimeError: If this fails; its errors have been printed.
    """
    unfinished = {job.arm for job in plan.jobs() if not job.record()}
    commands = {arm.teacher_command: arm for arm in plan.arms if arm.name in unfinished}
    for command in filter(None, commands):
        output_dir = plan.workspace.outputs_dir(command)
        call = [sys.executable, "-m", "espnet2_tfckd.stages.teacher_outputs", "--command", command]
        call += ["--data_dir", str(data_dir / "train"), "--output_dir", str(output_dir)]
        if subprocess.run([*call, "--nj", str(nj)]).returncode:
            raise RuntimeError(f"the teacher of the arm {commands[command].name} failed: {command}")


def run_experiment(options: argparse.Namespace) -> int:
    """Run what the command line asks for.

    Returns:
        Exit status: 1 if a job failed, otherwise 0, even if the time limit left jobs undone.

    Raises:
        FileNotFoundError: If a file that is needed is not there.
        ValueError: If the YAML or an option cannot be used.
        RuntimeError: If another process is working in the experiment directory.
    """
    experiment = read_experiment(options.config)
    teacher_exp = options.teacher_exp or (options.results / TEACHER if options.take_over else None)
    if teacher_exp:
        model_files(teacher_exp, CHECKPOINT)
    workspace = Workspace(
        experiment,
        options.data_dir,
        options.expdir / "enh_stats_16k",
        options.expdir,
        teacher_exp,
        options.keep_audio,
    )
    whole = Plan(workspace, list(experiment.arms.values()))
    plan = replace(whole, arms=selected(experiment, options.arms, options.seeds))
    own = ["python", "-m", "espnet2_tfckd.stages.experiment", *sys.argv[1:]]
    command = shlex.join(options.typed_as or own)
    seconds = None if options.time_limit is None else 60 * options.time_limit
    with only_one(options.expdir):
        if options.take_over:
            print(f"taken over from {options.results}: {take_over(whole, options.results)} jobs")
        write_outputs(plan, options.data_dir, options.nj)
        runner = Runner(
            plan,
            options.nj,
            seconds,
            lambda: write_results(whole, options.results, command),
            options.slurm,
        )
        runner.run()
        write_results(whole, options.results, command)
    if missing := runner.missing():
        print(f"Missing: {'; '.join(missing)}. The same command goes on.")
    for job in runner.failed.values():
        print(f"error: {job.name} failed; its log: {job.log}", file=sys.stderr)
    print(f"Results: {options.results / 'experiment.md'}")
    return 1 if runner.failed else 0


def get_parser() -> argparse.ArgumentParser:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.experiment", description=__doc__
    )
    parser.add_argument("--config", type=Path, default=Path("conf/experiment.yaml"))
    parser.add_argument(
        "--data_dir", type=Path, required=True, help="holds the data directories train, valid, test"
    )
    parser.add_argument("--expdir", type=Path, required=True, help="directory of all jobs")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where tables go")
    parser.add_argument("--teacher_exp", type=Path, help="trained teacher to use")
    parser.add_argument(
        "--typed_as",
        nargs=argparse.REMAINDER,
        help="command line for the report instead of this one; the last option",
    )
    parser.add_argument(
        "--take_over",
        action="store_true",
        help="go on from the runs in the results, with the teacher there",
    )
    parser.add_argument("--arms", default="", help="only these arms, separated by spaces")
    parser.add_argument("--seeds", default="", help="only these seeds, separated by spaces")
    parser.add_argument("--time_limit", type=float, help="minutes after which no job is started")
    parser.add_argument("--nj", type=at_least_one, default=cpu_cores(), help="jobs at a time")
    parser.add_argument(
        "--slurm", metavar="OPTIONS", help="run every job as one of Slurm, with these of srun's"
    )
    parser.add_argument("--keep_audio", action="store_true", help="keep enhanced audio")
    return parser


def main() -> None:
    """Run the experiment from the command line."""
    sys.exit(run_experiment(get_parser().parse_args()))


if __name__ == "__main__":
    run_command(main)
