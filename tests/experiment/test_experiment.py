"""The experiment runner: what is run, in which order, what is kept, and what it costs."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet2_tfckd.data.datadir import DataDir, read_data_dir, write_data_dir
from espnet2_tfckd.data.freshness import RECORD, write_record
from espnet2_tfckd.experiment import runner as experiment_runner
from espnet2_tfckd.experiment.jobs import Command
from espnet2_tfckd.experiment.runner import Process, Runner, start
from espnet2_tfckd.stages import experiment
from espnet2_tfckd.training.statistics import audio_made_of
from tests.experiment.experiments import CONTENTS, LINE, STAGE, write_configs


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe's directory with data and configurations, and stages that are stood in for."""
    monkeypatch.chdir(tmp_path)
    write_configs(CONTENTS)
    for split in ("train", "valid", "test"):
        utterances = {f"s-u{number}": f"{number}.wav" for number in range(3)}
        data = DataDir(utterances, utterances, dict.fromkeys(utterances, "s"))
        data.metadata = {utterance: {"seconds": "20"} for utterance in utterances}
        write_data_dir(f"dump/raw/{split}", data)
    for number in range(3):
        Path(f"{number}.wav").write_text(f"audio {number}")
    write_statistics()
    Path("stage.py").write_text(f"LINE = {LINE!r}\n{STAGE}")

    def start(command, log, launcher):
        log.parent.mkdir(parents=True, exist_ok=True)
        arguments = [sys.executable, "-IS", "stage.py", command.stage, *command.arguments]
        with open(log, "ab") as stream:
            return subprocess.Popen(arguments, stdout=stream, stderr=stream)

    monkeypatch.setattr(experiment_runner, "start", start)
    monkeypatch.setattr(experiment_runner, "POLL_SECONDS", 0.005)
    return tmp_path


@pytest.fixture(scope="module")
def finished_experiment(tmp_path_factory):
    """Holds a copy of an experiment that is finished, once one is."""
    return tmp_path_factory.mktemp("finished") / "recipe"


@pytest.fixture
def finished(recipe, finished_experiment):
    """The recipe after all of its experiment; run for the first test that needs it."""
    if not finished_experiment.exists():
        assert run()[0] == 0
        shutil.copytree(recipe, finished_experiment)
    shutil.copytree(finished_experiment, recipe, dirs_exist_ok=True, symlinks=True)
    return recipe


def write_statistics():
    """As stage 5 leaves them, of the present audio."""
    data = {split: read_data_dir(f"dump/raw/{split}") for split in ("train", "valid")}
    write_record(f"exp/enh_stats_16k/{RECORD}", audio_made_of(data, None))


def remove_jobs():
    shutil.rmtree("exp")
    write_statistics()


def run(*options):
    """Run the experiment with one job at a time; returns status and the commands that were run."""
    Path("commands.txt").write_text("")
    arguments = ["--data_dir", "dump/raw", "--expdir", "exp", "--nj", "1", *options]
    status = experiment.run_experiment(experiment.get_parser().parse_args(arguments))
    return status, Path("commands.txt").read_text().splitlines()


def results():
    return json.loads(Path("results/experiment.json").read_text())


class TestWholeExperiment:
    def test_each_run_is_trained_enhanced_and_scored_after_its_weight_is_found(self, finished):
        commands = Path("commands.txt").read_text().splitlines()
        steps = [" ".join(command.split()[:2]) for command in commands]
        trained = [step.removeprefix("train exp/") for step in steps if step.startswith("train")]
        weights = ["weight0.3333", "weight1", "weight3", "weight9"]
        assert trained == [
            "enh_teacher",
            "none/seed1",
            *(f"tuning/ours/{weight}" for weight in weights),
            "ours/seed1",
            "part/seed1",
            "rival/seed1",
            "none/seed2",
            "ours/seed2",
        ]
        place = steps.index("train exp/ours/seed1")
        assert steps[place + 1 : place + 3] == ["enhance exp/ours/seed1", "score exp/ours/seed1"]

    def test_every_arm_gets_its_weight_seed_and_options(self, finished):
        commands = Path("commands.txt").read_text().splitlines()
        by_run = {c.split()[1]: c for c in commands if c.startswith("train")}
        for name, options in {
            "ours/seed2": "--enh_args=--max_epoch 2 --seed 2 --distill_weight 3",
            "part/seed1": "--enh_args=--max_epoch 2 --seed 1 --distill_weight 3",
            "rival/seed1": "--enh_args=--max_epoch 2 --x y --seed 1 --distill_weight 1",
            "tuning/ours/weight9": "--enh_args=--max_epoch 1 --seed 1 --distill_weight 9",
            "none/seed2": "--enh_args=--max_epoch 2 --seed 2",
        }.items():
            assert by_run[f"exp/{name}"].endswith(options)
        assert "distill" not in by_run["exp/none/seed1"]
        assert "--teacher_exp=exp/enh_teacher" in by_run["exp/rival/seed1"]

    def test_the_results_hold_references_runs_search_and_comparisons(self, finished):
        rows = results()
        assert [r["arm"] for r in rows if r["kind"] == "reference"] == ["noisy", "teacher"]
        runs = {(r["arm"], r["seed"]): r for r in rows if r["kind"] == "run"}
        assert len(runs) == 6
        ours = runs["ours", 2]
        assert (ours["si_sdr"], ours["distill_weight"], ours["num_updates"]) == (3.5, 3.0, 10)
        assert ours["num_utterances"] == 3 and ours["valid_loss"] == 0.0
        assert 0 < ours["cpu_seconds_per_update"] < 0.6 and ours["peak_mb"] > 1
        chosen = {r["distill_weight"]: r["chosen"] for r in rows if r["kind"] == "tuning"}
        assert chosen == {0.3333: False, 1.0: False, 3.0: True, 9.0: False}
        compared = {(r["arm"], r["baseline"]): r for r in rows if r["kind"] == "comparison"}
        assert compared["ours", "none"]["difference"] == pytest.approx(0.5)
        assert compared["ours", "none"]["num_seeds"] == 2
        assert compared["ours", "rival"]["difference"] == 0.0
        assert compared["ours", "rival"]["num_seeds"] == 1

    def test_the_report_the_plot_and_the_utterances_are_written(self, finished):
        report = Path("results/experiment.md").read_text()
        assert "|ours|2|3|3.00 ± 0.71|+0.50 [+0.50, +0.50]|" in report
        assert "- train set: 3 utterances, 1.0 minutes, 1 speakers" in report
        assert Path("results/experiment.png").stat().st_size > 1000
        with open("results/utterances.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 3 * 8
        assert rows[-1] == {"arm": "rival", "seed": "1", "utterance": "s-u2", "si_sdr": "3.5000"}

    def test_only_the_best_student_is_kept_of_a_run(self, finished):
        left = {path.name for path in Path("exp/ours/seed1").rglob("*") if path.is_file()}
        assert "valid.loss.best.pth" in left
        assert not left & {"checkpoint.pth", "1epoch.pth", "spk1.scp"}

    def test_the_audio_is_kept_when_asked_for(self, recipe):
        run("--keep_audio", "--arms", "none", "--seeds", "1")
        assert Path("exp/none/seed1/enhanced_test/spk1.scp").exists()

    def test_a_trained_teacher_is_used_as_it_is(self, recipe):
        teacher = Path("mine")
        teacher.mkdir()
        for name in ("config.yaml", "valid.loss.best.pth"):
            (teacher / name).write_text("x")
        _, commands = run("--teacher_exp", "mine", "--arms", "rival")
        trained = [command for command in commands if command.startswith("train")]
        assert len(trained) == 1 and "--teacher_exp=mine" in trained[0]

    def test_an_arm_may_have_a_command_as_its_teacher(self, recipe, monkeypatch):
        calls, run_really = [], subprocess.run

        def enhance(call, **options):
            if "espnet2_tfckd.stages.teacher_outputs" not in call:
                return run_really(call, **options)
            calls.append(call)
            return subprocess.CompletedProcess(call, 1 if Path("broken").exists() else 0)

        monkeypatch.setattr(experiment.subprocess, "run", enhance)
        outside = {**CONTENTS["arms"]["rival"], "teacher_command": "cp {input} {output}"}
        write_configs({**CONTENTS, "arms": {**CONTENTS["arms"], "outside": outside}})
        _, commands = run("--arms", "none outside")
        (training,) = (c for c in commands if c.startswith("train exp/outside"))
        (call,) = calls
        folder = call[call.index("--output_dir") + 1]
        assert call[call.index("--command") + 1] == "cp {input} {output}"
        assert f"--teacher_outputs={folder}/teacher.scp" in training
        assert "--teacher_exp" not in training
        _, commands = run("--arms", "none outside")
        assert len(calls) == 1 and not commands  # neither is done again
        outside["teacher_command"] += " --strong"
        write_configs({**CONTENTS, "arms": {**CONTENTS["arms"], "outside": outside}})
        Path("broken").touch()
        with pytest.raises(RuntimeError, match="the teacher of the arm outside failed: cp "):
            run("--arms", "outside")

    def test_an_arm_may_train_another_network_than_the_student(self, recipe):
        arms = {**CONTENTS["arms"], "other": {"student_config": "conf/teacher.yaml", "seeds": [1]}}
        write_configs({**CONTENTS, "arms": arms})
        _, commands = run("--arms", "none other", "--seeds", "1")
        configs = {c.split()[1]: c.split()[2] for c in commands if c.startswith("train")}
        assert configs["exp/none/seed1"] == "--config=conf/student.yaml"
        assert configs["exp/other/seed1"] == "--config=conf/teacher.yaml"

    def test_several_jobs_at_a_time_give_the_same_results(self, finished):
        def without_costs():
            costs = ("cpu_seconds_per_update", "peak_mb")
            return [{k: v for k, v in row.items() if k not in costs} for row in results()]

        alone = without_costs()
        remove_jobs()
        run("--nj", "3")
        assert without_costs() == alone

    def test_progress_is_told_by_a_line_at_start_and_end(self, recipe, capsys):
        run("--arms", "none")
        lines = capsys.readouterr().out.splitlines()
        assert "[4/5] none, seed 1: started" in lines
        assert any(
            re.fullmatch(r"\[4/5\] none, seed 1: SI-SDR 2.000, 0.\d min; about \d+ s left", line)
            for line in lines
        )


class TestPiecesAndReruns:
    def test_a_rerun_does_nothing_again(self, finished):
        before = results()
        assert run() == (0, [])
        assert results() == before

    def test_pieces_come_together(self, recipe):
        run("--arms", "none rival", "--seeds", "1")
        assert {row["arm"] for row in results() if row["kind"] == "run"} == {"none", "rival"}
        run("--arms", "part")
        assert {row["arm"] for row in results() if row["kind"] == "run"} == {
            "none",
            "rival",
            "part",
        }

    def test_after_the_time_limit_nothing_is_started_and_what_is_missing_named(
        self, recipe, capsys
    ):
        assert run("--time_limit", "0") == (0, [])
        shown = capsys.readouterr().out
        assert "Missing: scores of noisy; training of the teacher; none, seed 1" in shown
        assert "4 runs that wait for the teacher or a weight" in shown

    def test_changed_inputs_are_named_and_only_what_depends_on_them_is_redone(
        self, finished, capsys
    ):
        Path("conf/rival.yaml").write_text("distiller: sp\ndistill_weight: 1.0\n")
        status, commands = run()
        assert status == 0
        assert {command.split()[1] for command in commands} == {"exp/rival/seed1"}
        assert "rival, seed 1 (weight 1): redone, since distiller was 'at', is 'sp'" in (
            capsys.readouterr().out
        )

    def test_other_audio_of_the_same_ids_redoes_everything(self, finished):
        Path("1.wav").write_text("Audio 1")
        with pytest.raises(ValueError, match="of other audio .*run stage 5 again"):
            run()
        write_statistics()
        status, commands = run()
        assert status == 0
        assert {c.split()[1] for c in commands if c.startswith("train")} >= {
            "exp/none/seed1",
            "exp/none/seed2",
            "exp/ours/seed1",
            "exp/rival/seed1",
            "exp/enh_teacher",
        }

    def test_another_teacher_redoes_every_distillation(self, finished):
        Path("exp/enh_teacher/valid.loss.best.pth").write_text("other weights")
        _, commands = run()
        trained = {c.split()[1] for c in commands if c.startswith("train")}
        assert {"exp/ours/seed1", "exp/part/seed1", "exp/rival/seed1"} <= trained
        assert not any("none" in name for name in trained)

    def test_results_are_taken_over_where_no_directory_of_the_jobs_is_left(self, finished, capsys):
        def without_rounding():
            return [
                {key: pytest.approx(v) if isinstance(v, float) else v for key, v in row.items()}
                for row in results()
            ]

        before = without_rounding()
        remove_jobs()
        assert run("--take_over") == (0, [])
        assert "taken over from results: 12 jobs" in capsys.readouterr().out
        assert results() == before

    def test_only_what_has_the_present_inputs_is_taken_over(self, finished):
        remove_jobs()
        Path("conf/rival.yaml").write_text("distiller: sp\ndistill_weight: 1.0\n")
        _, commands = run("--take_over")
        assert {command.split()[1] for command in commands} == {"exp/rival/seed1"}

    def test_results_without_the_scores_of_all_utterances_are_refused(self, finished):
        path = Path("results/utterances.csv")
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        remove_jobs()
        with pytest.raises(ValueError, match="utterances.csv has 2 of the 3 utterances of rival"):
            run("--take_over")

    def test_there_must_be_results_to_take_over(self, recipe):
        with pytest.raises(FileNotFoundError, match="results/teacher/config.yaml is not there"):
            run("--take_over")
        with pytest.raises(FileNotFoundError, match="results/experiment.json is not there"):
            Path("mine").mkdir()
            for name in ("config.yaml", "valid.loss.best.pth"):
                Path("mine", name).write_text("x")
            run("--take_over", "--teacher_exp", "mine")

    def test_another_metric_needs_no_training(self, finished):
        write_configs({**CONTENTS, "metrics": ["SI_SDR", "ESTOI"]})
        _, commands = run()
        assert {command.split()[0] for command in commands} == {"enhance", "score"}
        assert all("estoi" in row for row in results() if row["kind"] == "run")

    def test_an_interrupted_training_is_gone_on_with(self, recipe):
        run("--arms", "none", "--seeds", "1")
        for name in ("run.json", "trained.json"):
            Path("exp/none/seed1", name).unlink()
        run("--arms", "none", "--seeds", "1")
        log = Path("exp/none/seed1/train.log").read_text()
        assert log.count("epoch results") == 2  # the directory was not emptied

    def test_a_failing_job_is_named_with_its_log_and_stops_no_other(self, recipe, capsys):
        Path("fail").touch()
        status, commands = run()
        shown = capsys.readouterr().err
        assert status == 1
        assert "rival, seed 1 (weight 1) failed; its log: exp/rival/seed1/job.log" in shown
        assert "no luck" in Path("exp/rival/seed1/job.log").read_text()
        assert {row["arm"] for row in results() if row["kind"] == "run"} == {"none", "ours", "part"}
        Path("fail").unlink()
        assert run()[0] == 0

    @pytest.mark.parametrize(
        "options, message",
        [
            (("--arms", "none x"), "x is not among none ours part rival"),
            (("--arms", "none none"), "names an arm twice"),
            (("--seeds", "1 7"), "7 is not a seed of"),
        ],
    )
    def test_unknown_arms_and_seeds_are_refused(self, recipe, options, message):
        with pytest.raises(ValueError, match=message):
            run(*options)


def test_a_job_of_slurm_is_started_by_srun_and_its_costs_are_not_known(tmp_path, monkeypatch):
    (tmp_path / "srun").write_text('#!/bin/sh\necho "srun $1 $2 $3"\n')
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    runner = Runner(None, 1, None, lambda: None, slurm="--partition 'of us'")
    process = start(Command("train", ()), tmp_path / "job.log", runner.launcher)
    running = Process(None, None, process, 0.0, 0.0, is_elsewhere=True)
    while (usage := running.usage()) is None:
        time.sleep(0.01)
    assert (usage.cpu_seconds, usage.peak_mb, process.returncode) == (None, None, 0)
    assert (tmp_path / "job.log").read_text() == "srun --ntasks=1 --partition of us\n"
    assert Runner(None, 1, None, lambda: None).launcher == []
