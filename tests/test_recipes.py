"""The mini recipe end to end in a copy of the repository, on made-up packages."""

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from tests.corpora.mini_packages import write_packages
from tests.recipes import (
    ROOT,
    TINY,
    copy_repository,
    environment,
    run,
    run_front_door,
    write_configs,
)

EXPERIMENT = {
    "student_config": "conf/student.yaml",
    "teacher_config": "conf/teacher.yaml",
    "teacher_args": "",
    "enh_args": "",
    "metrics": ["SI_SDR"],
    "baseline": "none",
    "method": "ours",
    "tuning": {"factor": 3, "most": 3, "enh_args": ""},
    "arms": {
        "none": {"seeds": [1]},
        "ours": {"distill_config": "conf/distill.yaml", "seeds": [1]},
    },
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of what the front door needs, with packages and tiny configurations."""
    root = tmp_path_factory.mktemp("clone")
    copy_repository(root, "mini")
    recipe = root / "egs2" / "mini" / "enh1"
    student = {**TINY, "separator_conf": {**TINY["separator_conf"], "heads": 2}}
    write_configs(recipe / "conf", TINY, student)
    (recipe / "conf" / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    write_packages(root / "packages")
    return root


def front_door(repository, *options):
    """Run ./run.sh on the made-up packages from the repository's top."""
    data = "--source_dir packages --train_utts 4 --valid_utts 2 --test_utts 2".split()
    configs = "--teacher_config conf/teacher.yaml --distill_config conf/distill.yaml".split()
    return run_front_door(repository, *data, *configs, *options)


@pytest.fixture(scope="module")
def recipe(repository):
    """The recipe's directory after a run of all stages."""
    done = front_door(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    return repository / "egs2" / "mini" / "enh1"


class TestAllStages:
    def test_the_results_list_noisy_teacher_student_and_distilled_student(self, recipe):
        rows = json.loads((recipe / "exp" / "results.json").read_text())
        systems = [row["system"] for row in rows]
        assert systems == ["noisy", "teacher", "student", "student_distill"]
        assert {row["dataset"] for row in rows} == {"test"}
        assert all(row["num_utterances"] == 2 and np.isfinite(row["si_sdr"]) for row in rows)
        assert all(row["num_params"] > 0 and row["rtf"] > 0 for row in rows[1:])
        assert "student_distill" in (recipe / "exp" / "RESULTS.md").read_text()

    def test_the_report_lets_both_utterances_be_heard(self, recipe):
        html = (recipe / "exp" / "report.html").read_text()
        assert html.count("<audio") == 2 * 5  # noisy, three systems, reference
        assert "over the mixture in SI-SDR" in html

    def test_a_packed_model_can_be_the_teacher(self, repository, recipe):
        packed = "exp/enh_student_distill/enh_student_distill_valid.loss.best.zip"
        teacher = ("--teacher_model_tag", packed, "--expdir", "exp/from_packed")
        alone = ("--train_baseline", "false")
        done = front_door(repository, "--stage", "5", "--stop_stage", "7", *teacher, *alone)
        assert done.returncode == 0, done.stdout + done.stderr
        exp = recipe / "exp" / "from_packed"
        fetched = exp / "enh_student_distill_valid.loss.best" / "valid.loss.best.pth"
        own = recipe / "exp" / "enh_student_distill" / "valid.loss.best.pth"
        assert fetched.read_bytes() == own.read_bytes()
        assert (exp / "enh_student_distill" / "valid.loss.best.pth").exists()

    def test_a_teacher_from_another_experiment_is_left_alone(self, repository, recipe):
        def files():
            return {
                path: path.stat().st_mtime_ns for path in (recipe / "exp/enh_teacher").iterdir()
            }

        before = files()
        teacher = ("--teacher_exp", "exp/enh_teacher", "--expdir", "exp/from_given")
        done = front_door(repository, "--stage", "6", "--stop_stage", "6", *teacher)
        assert done.returncode == 0, done.stdout + done.stderr
        fetched = recipe / "exp/from_given/enh_given_teacher/valid.loss.best.pth"
        assert fetched.read_bytes() == (recipe / "exp/enh_teacher/valid.loss.best.pth").read_bytes()
        assert files() == before

    def test_a_published_model_is_scored_without_training(self, repository, recipe):
        packed = "exp/enh_student_distill/enh_student_distill_valid.loss.best.zip"
        options = ("--download_model", packed, "--expdir", "exp/downloaded", "--stage", "8")
        done = front_door(repository, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        rows = json.loads((recipe / "exp" / "downloaded" / "results.json").read_text())
        systems = [row["system"] for row in rows]
        assert systems == ["noisy", "student_distill_valid.loss.best"]
        html = (recipe / "exp" / "downloaded" / "report.html").read_text()
        assert html.count("<audio") == 2 * 3 and "it was not trained here" in html

    def test_the_distilled_student_is_exported_and_made_ready_for_the_hub(self, repository, recipe):
        exp_dir = recipe / "exp" / "enh_student_distill"
        assert (exp_dir / "onnx" / "offline.onnx").exists()
        licences = ("--model_license", "cc0-1.0", "--corpus_license", "public domain")
        done = front_door(repository, "--stage", "13", "--hf_repo", "someone/small", *licences)
        assert done.returncode == 0, done.stdout + done.stderr
        card = (exp_dir / "hub" / "README.md").read_text()
        assert "license: cc0-1.0" in card and "**this model**" in card
        assert (exp_dir / "hub" / "samples" / "enhanced.wav").exists()

    def test_the_distilled_student_is_packed_without_teacher_and_distiller(self, recipe):
        exp_dir = recipe / "exp" / "enh_student_distill"
        packed = exp_dir / "enh_student_distill_valid.loss.best.zip"
        with zipfile.ZipFile(packed) as archive:
            configs = [n for n in archive.namelist() if n.endswith("config.yaml")]
            config = yaml.safe_load(archive.read(configs[0]))
        assert config["separator"] == "dpdcrn"
        assert not any("teacher" in key or "distill" in key for key in config)

    def test_training_can_mix_the_corpus_anew_at_each_visit(self, repository, recipe):
        options = ("--remix_snr", "-5 15", "--expdir", "exp/remixed")
        done = front_door(repository, "--stage", "3", "--stop_stage", "6", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        noises = (recipe / "dump" / "raw" / "train" / "noise.scp").read_text().splitlines()
        assert len(noises) == 4
        config = recipe / "exp" / "remixed" / "enh_teacher" / "config.yaml"
        config = yaml.safe_load(config.read_text())
        assert (config["preprocessor"], config["noise_db_range"]) == ("enh", "-5_15")
        assert config["noise_scp"] == "dump/raw/train/noise.scp"

    def test_every_stage_has_a_log(self, recipe):
        logs = {path.name for path in (recipe / "exp" / "log").iterdir()}
        assert {f"stage{number}.log" for number in (1, 3, 4, 5, 6, 7, 8, 9, 11, 12)} <= logs

    def test_a_second_run_does_nothing_again(self, recipe, repository):
        files = [p for name in ("teacher", "student", "student_distill")
                 for p in (recipe / "exp" / f"enh_{name}").rglob("*")
                 if p.suffix in {".pth", ".wav"} or p.name == "train.log"]  # fmt: skip
        assert len(files) > 9
        before = {path: path.stat().st_mtime_ns for path in files}
        done = front_door(repository)
        assert done.returncode == 0, done.stdout + done.stderr
        assert {path: path.stat().st_mtime_ns for path in files} == before

    def test_a_changed_configuration_is_refused_with_stage_and_log(self, recipe, repository):
        done = front_door(repository, "--stage", "6", "--enh_args", "--max_epoch 7")
        assert done.returncode == 1
        assert "enh_args was '', is '--max_epoch 7'" in done.stdout + done.stderr
        assert "Stage 6 (training of the teacher" in done.stderr
        assert "--stage 6" in done.stderr
        log = Path(re.search(r"its log: (.*)", done.stderr)[1])
        assert "holds a finished training" in log.read_text()

    def test_other_recordings_of_the_same_names_sizes_and_dates_change_everything(
        self, repository, recipe
    ):
        """Nothing of what was made of the old ones passes as made of the new ones."""
        options = "--datadir data_b --dumpdir dump_b --expdir exp_b --stop_stage 9".split()
        options += ["--train_baseline", "false"]
        done = front_door(repository, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        before = self.scores(recipe / "exp_b")
        weights = (recipe / "exp_b" / "enh_teacher" / "valid.loss.best.pth").read_bytes()
        for path in (recipe / "data_b").rglob("*.wav"):
            times = path.stat()
            samples, rate = soundfile.read(path, dtype="int16")
            soundfile.write(path, samples[::-1], rate)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        options += ["--stage", "3"]
        done = front_door(repository, *options)
        assert done.returncode == 1
        assert "exp_b/enh_teacher holds a finished training, which is kept" in done.stdout
        assert "train data changed" in done.stdout and "--overwrite true" in done.stdout
        kept = (recipe / "exp_b" / "enh_teacher" / "valid.loss.best.pth").read_bytes()
        assert kept == weights and self.scores(recipe / "exp_b") == before
        done = front_door(repository, *options, "--overwrite", "true")
        assert done.returncode == 0, done.stdout + done.stderr
        after = self.scores(recipe / "exp_b")
        assert before.keys() == after.keys() and not set(before.values()) & set(after.values())

    @staticmethod
    def scores(expdir):
        rows = json.loads((expdir / "results.json").read_text())
        return {row["system"]: row["si_sdr"] for row in rows}


class TestExperiment:
    @pytest.fixture(scope="class")
    def run_experiment(self, recipe, repository):
        """Function that runs the experiment on the packages with the recipe's teacher."""
        data = f"--source_dir '{repository}/packages' --nj 1"
        data += " --train_utts 4 --valid_utts 2 --test_utts 2"
        command = ["./run_experiment.sh", "--nj", "1", "--recipe_opts", data]
        command += ["--teacher_exp", "exp/enh_teacher"]
        return lambda *options: run(recipe, *command, *options)

    def test_its_data_stays_apart_from_that_of_the_recipe(self, recipe, run_experiment):
        def files():
            folders = [recipe / "data" / name for name in ("train", "valid", "test", "audio")]
            paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
            return {path: path.stat().st_mtime_ns for path in paths}

        before = files()
        done = run_experiment("--time_limit", "0")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Missing: scores of noisy" in done.stdout
        assert len(before) > 16 and files() == before
        scp = (recipe / "dump" / "experiment" / "raw" / "train" / "wav.scp").read_text()
        assert scp.count(" data/experiment/audio/train/mixture/") == 4

    def test_it_compares_a_distillation_with_none(self, recipe, run_experiment):
        done = run_experiment()
        assert done.returncode == 0, done.stdout + done.stderr
        report = (recipe / "results" / "experiment.md").read_text()
        assert "- command: `./run_experiment.sh --nj 1 --recipe_opts '--source_dir" in report
        rows = json.loads((recipe / "results" / "experiment.json").read_text())
        kinds = [(row["kind"], row["arm"]) for row in rows]
        assert kinds == [
            ("reference", "noisy"),
            ("reference", "teacher"),
            ("run", "none"),
            ("run", "ours"),
            ("comparison", "ours"),
        ]
        assert all(np.isfinite(row["si_sdr"]) for row in rows[:4])
        assert all(row["cpu_seconds_per_update"] > 0 for row in rows[2:4])
        assert rows[-1]["difference"] == pytest.approx(rows[3]["si_sdr"] - rows[2]["si_sdr"])

    def test_help_needs_no_python(self, recipe):
        done = subprocess.run(
            ["./run_experiment.sh", "--help"],
            cwd=recipe,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0 and "--time_limit" in done.stdout


class TestKilledTraining:
    def test_it_goes_on_after_the_last_whole_epoch(self, recipe):
        exp_dir = recipe / "exp" / "enh_killed"
        command = [
            sys.executable,
            "-m",
            "espnet2_tfckd.stages.train",
            "--exp_dir",
            "exp/enh_killed",
        ]
        command += "--config conf/student.yaml --train_dir dump/raw/train".split()
        command += "--valid_dir dump/raw/valid --stats_dir exp/enh_stats_16k".split()
        command += ["--enh_args", "--max_epoch 6"]
        settings = {**environment(), "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command, cwd=recipe, stdout=subprocess.PIPE, text=True, env=settings
        ) as killed:
            for line in killed.stdout:
                if "epoch 2/6" in line:
                    killed.send_signal(signal.SIGKILL)
                    break
        trained = [int(path.name.removesuffix("epoch.pth")) for path in exp_dir.glob("*epoch.pth")]
        assert max(trained) < 6
        script = exp_dir / "run.sh"
        done = subprocess.run([script], capture_output=True, text=True, env=settings, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr
        first = int(re.search(r"training from epoch (\d+)", done.stdout)[1])
        assert 2 <= first <= max(trained) + 1
        assert "epoch 6/6" in done.stdout
        assert (exp_dir / "valid.loss.best.pth").is_file()
