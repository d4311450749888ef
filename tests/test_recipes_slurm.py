"""The recipe for own data on a real Slurm of two pretended nodes: make test-slurm."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from espnet2_tfckd.training.settings import UNFINISHED
from tests.recipes import (
    CONFIGS,
    TINY,
    copy_repository,
    environment,
    run_front_door,
    write_configs,
    write_recordings,
)
from tests.slurm import idle_nodes, running_slurm, wait_for, why_not

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
OWN = ("--corpus", "custom", "--speech_dir", "speech", "--noise_dir", "noise", "--ngpu", "0")
BY_SLURM = ("--cmd", "slurm", "--num_nodes", "2")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of what the front door needs, with data up to stage 5, and a Slurm."""
    root = tmp_path_factory.mktemp("clone")
    copy_repository(root, "custom")
    config = {**TINY, "max_epoch": 2}
    write_configs(root, config, config)
    write_recordings(root)
    with running_slurm(tmp_path_factory.mktemp("slurm")):
        yield root


@pytest.fixture(scope="module")
def whole_run(repository):
    """All stages, each as jobs."""
    done = front_door(repository, *BY_SLURM)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def front_door(root, *options):
    return run_front_door(root, *OWN, *CONFIGS, *options)


def recipe(root):
    return root / "egs2" / "custom" / "enh1"


def with_data(root, expdir):
    """An experiment directory beside the whole run's, with its statistics."""
    folder = recipe(root) / expdir
    folder.mkdir()
    (folder / "enh_stats_16k").symlink_to(recipe(root) / "exp" / "enh_stats_16k")
    return folder


def test_every_stage_runs_as_jobs_and_trainings_on_both_nodes(repository, whole_run):
    rows = json.loads((recipe(repository) / "exp" / "results.json").read_text())
    assert [row["system"] for row in rows] == ["noisy", "teacher", "student", "student_distill"]
    log = (recipe(repository) / "exp" / "enh_teacher" / "train.log").read_text()
    assert re.search(r"^\[\S+:0/2\]", log, re.MULTILINE)  # rank 0 of 2
    assert not list(recipe(repository).glob("exp/**/.rendezvous*"))


def test_a_second_run_trains_nothing(repository, whole_run):
    done = front_door(repository, *BY_SLURM, "--stage", "6", "--stop_stage", "7")
    assert done.returncode == 0 and done.stdout.count("finished, and up to date") == 3


def test_in_an_allocation_of_its_own(repository, whole_run):
    """The number of processes is the same, so the training of the first run counts."""
    command = [*OWN, *CONFIGS, "--num_nodes", "2", "--stage", "6", "--stop_stage", "6", "--nj", "1"]
    batch = ["sbatch", "--wait", "--nodes=2", "--ntasks-per-node=1", "--output=batch.log"]
    done = subprocess.run(
        [*batch, "run.sh", *command], cwd=repository, env=environment(), capture_output=True
    )
    assert done.returncode == 0, (repository / "batch.log").read_text()
    assert "exp/enh_teacher: finished, and up to date" in (repository / "batch.log").read_text()


def test_a_bad_file_of_a_job_is_named_where_the_command_was_typed(repository, whole_run):
    enhanced = recipe(repository) / "exp" / "enh_teacher" / "enhanced_test"
    scp = enhanced / "spk1.scp"
    utterance, path = scp.read_text().splitlines()[0].split(maxsplit=1)
    audio = recipe(repository) / path
    before = audio.read_bytes()
    audio.write_bytes(before[:30])
    done = front_door(repository, *BY_SLURM, "--stage", "9", "--stop_stage", "9")
    assert done.returncode == 1 and audio.name in done.stdout + done.stderr
    audio.write_bytes(before)
    assert front_door(repository, *BY_SLURM, "--stage", "9", "--stop_stage", "9").returncode == 0


def reach_time_limit(job: str) -> None:
    """Slurm's limits are minutes: the job's is shortened while it runs."""
    control("update", f"JobId={job}", "TimeLimit=1")


def preempt(job: str) -> None:
    """By a job of a partition that goes first."""
    subprocess.run(["srun", "--partition=urgent", "--nodes=2", "--exclusive", "true"], check=True)


def lose_node(job: str) -> None:
    """The node comes back by itself, since its daemon still runs."""
    control("update", "NodeName=n-2", "State=DOWN", "Reason=test")


@pytest.mark.parametrize("end", [reach_time_limit, preempt, lose_node])
def test_a_training_goes_on_in_another_job_when_slurm_ends_one(repository, whole_run, end):
    folder = with_data(repository, f"exp_{end.__name__}")
    output = train_until(folder, "2epoch.pth", end, "--max_epoch 4")
    assert (folder / "enh_teacher" / "4epoch.pth").exists(), output


def test_it_goes_on_within_an_epoch(repository, whole_run):
    folder = with_data(repository, "exp_long_epoch")
    long = "--max_epoch 1 --num_iters_per_epoch 40 --save_minutes 0"
    output = train_until(folder, UNFINISHED, preempt, long)
    assert "enh_teacher: continued after" in output
    assert (folder / "enh_teacher" / "1epoch.pth").exists(), output


def train_until(folder, file: str, end: Callable, enh_args: str) -> str:
    """Output of a training whose job is ended as soon as it has written a file."""
    command = ["./run.sh", *OWN, *CONFIGS, *BY_SLURM, "--expdir", folder.name, "--stage", "6"]
    command += ["--stop_stage", "6", "--nj", "1", "--enh_args", enh_args]
    root = folder.parents[3]
    with subprocess.Popen(
        command, cwd=root, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: (folder / "enh_teacher" / file).exists())
        [job] = jobs()
        end(job)
        output = process.communicate(timeout=500)[0]
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("victim", ["stage", "rank"])
def test_nothing_is_left_of_a_killed_training_and_it_goes_on(repository, whole_run, victim):
    folder = with_data(repository, f"exp_{victim}")
    options = [*BY_SLURM, "--expdir", folder.name, "--stage", "6"]
    options += ["--stop_stage", "6", "--nj", "1", "--enh_args", "--max_epoch 4"]
    command = ["./run.sh", *OWN, *CONFIGS, *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=repository, env=environment(), **quiet) as process:
        wait_for(lambda: (folder / "enh_teacher" / "1epoch.pth").exists())
        module = {"stage": "stages.train", "rank": "bin.enh_train"}[victim]
        os.kill(processes_of(module, folder.name)[-1], signal.SIGKILL)
        assert process.wait(timeout=120) != 0
    wait_for(lambda: not processes_of("bin.enh_train", folder.name), seconds=60)
    wait_for(lambda: idle_nodes() == 2, seconds=60)
    assert not (folder / "enh_teacher" / "finished").exists()
    done = front_door(repository, *options)
    assert done.returncode == 0 and (folder / "enh_teacher" / "4epoch.pth").exists()
    assert "enh_teacher: training from epoch 2" in done.stdout


def control(*command: str) -> None:
    subprocess.run(["scontrol", *command], check=True)


def jobs() -> list[str]:
    done = subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True)
    return done.stdout.split()


def processes_of(module: str, expdir: str) -> list[int]:
    done = subprocess.run(["pgrep", "-f", f"{module} .*{expdir}/"], capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]
