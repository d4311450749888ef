"""The options of ./run.sh: which are refused, with what words, and before anything is done."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.recipes import copy_repository
from tests.recipes import run_front_door as front_door


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of what the front door needs."""
    root = tmp_path_factory.mktemp("clone")
    copy_repository(root, "custom", "mini")
    return root


def bare(repository, *options, script="run.sh"):
    """Run a script where there is no Python, and not for long."""
    return subprocess.run(
        [f"./{script}", *options],
        cwd=repository,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
        timeout=2,
    )


@pytest.mark.parametrize(
    "option, message",
    [
        ("--wrong_option", "unknown option --wrong_option"),
        ("--stage=first", "--stage takes a whole number, not 'first'"),
        ("--train-baseline=yes", "--train_baseline takes true or false, not 'yes'"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_a_wrong_option_is_named(repository, option, message):
    done = front_door(repository, option, *(["x"] if option == "--wrong_option" else []))
    assert done.returncode == 2
    assert message in done.stderr


def test_an_option_without_value_is_named(repository):
    done = front_door(repository, "--nj")
    assert done.returncode == 2
    assert "option --nj needs a value" in done.stderr


def test_stages_must_not_run_backwards(repository):
    done = front_door(repository, "--stage", "5", "--stop-stage", "4")
    assert done.returncode == 2
    assert "--stage 5 is beyond --stop_stage 4" in done.stderr


@pytest.mark.parametrize(
    "options, message",
    [
        (["-5_15"], "--remix_snr takes two numbers, as in '-5 15', not '-5_15'"),
        (["-5 15", "--corpus", "custom", "--rir_dir", "rooms"], "speech plus noise, not for"),
    ],
)
def test_mixing_anew_takes_two_numbers_and_no_rooms(repository, options, message):
    done = front_door(repository, "--remix_snr", *options)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("corpus", [["--corpus", "maxi"], ["--corpus=maxi"]])
def test_an_unknown_corpus_is_named_with_those_there_are(repository, corpus):
    done = front_door(repository, *corpus)
    assert done.returncode == 2
    assert "no corpus 'maxi'; there are: custom mini" in done.stderr


@pytest.mark.parametrize("corpus", [["--corpus"], ["--corpus="], ["--corpus", ""]])
def test_a_corpus_without_a_name_is_no_corpus(repository, corpus):
    done = front_door(repository, *corpus)
    assert done.returncode == 2
    assert "no corpus ''; there are: custom mini" in done.stderr


@pytest.mark.parametrize("stage", ["0", "14", "99"])
def test_a_stage_that_there_is_not_is_refused(repository, stage):
    done = front_door(repository, "--stage", stage)
    assert done.returncode == 2
    assert f"--stage {stage}: there are stages 1 to 13" in done.stderr


@pytest.mark.parametrize("stage", ["2", "10", "13"])
def test_a_stage_that_needs_an_option_does_not_end_as_if_it_were_done(repository, stage):
    done = front_door(repository, "--stage", stage, "--stop_stage", stage)
    assert done.returncode == 2
    assert f"no stage from {stage} to {stage} runs with these options" in done.stderr
    assert "Done" not in done.stdout


@pytest.mark.parametrize("number", ["-3", "1.5", "two", ""])
def test_jobs_are_a_whole_number(repository, number):
    done = front_door(repository, "--nj", number)
    assert done.returncode == 2
    assert f"--nj takes a whole number, not '{number}'" in done.stderr


def test_there_is_a_job_at_least(repository):
    done = front_door(repository, "--nj", "0")
    assert done.returncode == 2
    assert "--nj, --inference_nj and --num_nodes start at 1" in done.stderr


@pytest.mark.parametrize(
    "options, message",
    [
        (["--cmd", "slurm"], "--cmd slurm: "),  # no srun, or no Slurm that answers
        (["--cmd", "kubernetes"], "--cmd is local or slurm, not 'kubernetes'"),
        (["--slurm_opts", "--partition cpu"], "go with --cmd slurm"),
        (["--num_nodes", "2"], "--num_nodes 2 needs a Slurm allocation"),
    ],
)
def test_what_only_slurm_can_do_is_refused_without_it(repository, options, message, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    done = front_door(repository, *options, "--datadir", "data_slurm")
    assert done.returncode == 2
    assert message in done.stderr or "there is no srun here" in done.stderr
    assert not (repository / "egs2" / "mini" / "enh1" / "data_slurm").exists()


def test_a_number_may_begin_with_zeros(repository):
    done = front_door(repository, "--nj", "08", "--stage", "02", "--stop_stage", "2")
    assert "no stage from 2 to 2 runs with these options" in done.stderr


def test_gpus_that_there_are_not_are_refused_before_the_data_are_made(repository):
    done = front_door(repository, "--ngpu", "99", "--expdir", "exp_gpu", "--datadir", "data_gpu")
    assert done.returncode == 2
    assert re.search(r"--ngpu 99, but torch finds \d+ GPUs", done.stderr)
    assert not (repository / "egs2" / "mini" / "enh1" / "data_gpu").exists()


@pytest.mark.parametrize("form", ["--mixture_dir={}", "--mixture_dir {}", "--mixture-dir={}"])
def test_paths_are_relative_to_where_the_command_is_typed(repository, form):
    (repository / "typed here").mkdir(exist_ok=True)
    recipe = repository / "egs2" / "shown" / "enh1" / "run.sh"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    recipe.chmod(0o755)
    option = [word.format("typed here") for word in form.split()]
    done = front_door(repository, "--corpus", "shown", *option, "--reference_dir", "not here")
    assert f"{repository}/typed here><--reference_dir><not here>" in done.stdout


def test_help_lists_stages_and_options_without_a_python(repository):
    done = bare(repository, "--help")
    assert done.returncode == 0
    for shown in ("11  pack", "--teacher_config conf/teacher.yaml", "--train_utts"):
        assert shown in done.stdout
    assert not (repository / ".venv").exists()


@pytest.mark.parametrize(
    ("options", "teacher", "experiment"),
    [
        ("", True, True),
        ("--test-utts 3 --teacher-outputs true --distill_config=conf/other.yaml", True, True),
        ("--enh-args=--seed=3", True, False),
        ("--student_config conf/tuning/student_causal.yaml", True, False),
        ("--sources=extended", True, False),
        ("--teacher-config conf/teacher.yaml", False, False),
        ("--teacher_model_tag=user/model", False, False),
        ("--teacher-command 'a {input} {output}'", False, False),
        ("--fs 8k", False, False),
    ],
)
def test_the_mini_recipe_brings_a_teacher_unless_another_one_is_asked_for(
    repository, options, teacher, experiment
):
    done = bare(repository, "--help", *shlex.split(options), script="egs2/mini/enh1/run.sh")
    assert done.returncode == 0, done.stderr
    assert ("--teacher_exp results/teacher" in done.stdout) == teacher
    assert ("--experiment_results results/wide" in done.stdout) == experiment


def test_wrong_options_are_refused_before_anything_is_installed(repository):
    done = bare(repository, "--wrong_option", "x")
    assert done.returncode == 2
    assert not (repository / ".venv").exists()


def test_a_failing_stage_is_named_with_its_log(repository):
    empty = repository / "empty"
    empty.mkdir(exist_ok=True)
    done = front_door(repository, "--source_dir", "empty", "--expdir", "exp_failing")
    assert done.returncode == 1
    assert "Stage 1 (data preparation) failed (status 1)" in done.stderr
    assert "//" not in done.stderr
    log = Path(re.search(r"its log: (.*)", done.stderr)[1])
    assert "error: " in log.read_text()
