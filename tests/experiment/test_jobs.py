"""What a job of an experiment costs, and that all of its trainings start alike."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet2_tfckd.data.datadir import DataDir, write_data_dir
from espnet2_tfckd.experiment.jobs import Usage, training_result
from espnet2_tfckd.training.task import EnhancementKDTask, EnhancementTask
from tests.experiment.experiments import LINE
from tests.recipes import DISTILLATION, ROOT, TINY


class TestCost:
    def write_log(self, path, *epochs):
        lines = (LINE.format(epoch=e, seconds=s, updates=u, loss=x) for e, s, u, x in epochs)
        path.write_text("".join(lines))

    def test_it_is_the_time_of_updates_in_which_the_process_had_a_processor(self, tmp_path):
        log = tmp_path / "train.log"
        self.write_log(log, (1, 0.5, 10, -2.0), (2, 0.8, 30, -1.5))
        result = training_result(log, 0, Usage(cpu_seconds=15, wall_seconds=30, peak_mb=700))
        # (10 * 0.5 + 20 * 0.8) / 30 = 0.7 s an update, half of it on a processor
        assert result["cpu_seconds_per_update"] == pytest.approx(0.35)
        assert (result["num_updates"], result["valid_loss"], result["peak_mb"]) == (30, -2.0, 700)

    def test_of_a_resumed_training_only_the_last_attempt_is_timed(self, tmp_path):
        log = tmp_path / "train.log"
        self.write_log(log, (1, 9.0, 10, -2.0), (2, 9.0, 30, -2.5))
        start = log.stat().st_size
        with open(log, "a") as file:
            file.write(LINE.format(epoch=2, seconds=0.4, updates=30, loss=-1.0))
            file.write(LINE.format(epoch=3, seconds=0.2, updates=50, loss="nan"))
        result = training_result(log, start, Usage(10, 10, 700))
        assert result["cpu_seconds_per_update"] == pytest.approx(0.3)
        assert (result["num_updates"], result["valid_loss"]) == (50, -2.0)

    def test_a_training_that_was_finished_before_costs_an_unknown_amount(self, tmp_path):
        log = tmp_path / "train.log"
        self.write_log(log, (1, 0.5, 10, -2.0))
        result = training_result(log, log.stat().st_size, Usage(1, 2, 100))
        assert result["cpu_seconds_per_update"] is None and result["peak_mb"] is None
        assert result["num_updates"] == 10

    def test_a_log_without_epochs_is_refused(self, tmp_path):
        (tmp_path / "train.log").write_text("nothing\n")
        with pytest.raises(ValueError, match="no results of an epoch"):
            training_result(tmp_path / "train.log", 0, Usage(1, 2, 100))

    def test_processor_time_and_memory_include_those_of_children(self):
        child = "import time; x = b'x' * 150_000_000\nwhile time.process_time() < 0.3: pass"
        parent = f"import subprocess, sys; subprocess.run([sys.executable, '-IS', '-c', {child!r}])"
        code = f"""
import subprocess, sys, time
from espnet2_tfckd.experiment.runner import Process
began = time.monotonic()
process = Process(None, None, subprocess.Popen([sys.executable, "-c", {parent!r}]), began, began)
while (usage := process.usage()) is None:
    time.sleep(0.01)
print(usage.cpu_seconds, usage.wall_seconds, usage.peak_mb)
"""
        # in a process of its own: what this one has, its children would count as theirs
        cpu_seconds, wall_seconds, peak_mb = map(float, in_new_process(code).split())
        assert 0.3 <= cpu_seconds < 0.3 + wall_seconds
        assert 143 < peak_mb < 200

    def test_the_runner_is_small_since_its_jobs_inherit_its_peak_memory(self):
        code = "import sys, espnet2_tfckd.stages.experiment; print('torch' in sys.modules)"
        assert in_new_process(code) == "False"


def in_new_process(code):
    """Output of a Python program."""
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()


class TestSameStart:
    """What trainings with one seed begin with, as ESPnet's own main hands it to its trainer."""

    @pytest.fixture
    def begin(self, tmp_path, monkeypatch, rewrite_audio):
        """Function: the student's initial weights and the mixtures of the first two epochs."""
        monkeypatch.chdir(tmp_path)
        rng = np.random.default_rng(0)
        lengths = {f"s-u{number}": 20000 + 2000 * number for number in range(6)}
        data = DataDir({}, {}, dict.fromkeys(lengths, "s"))
        for utterance, length in lengths.items():
            for kind, table in (("mixture", data.mixture), ("reference", data.reference)):
                table[utterance] = f"{utterance}_{kind}.wav"
                rewrite_audio(Path(table[utterance]), 0.1 * rng.standard_normal(length))
        write_data_dir("data", data)
        Path("shape").write_text("".join(f"{utt} {n}\n" for utt, n in lengths.items()))
        options = ["--output_dir", "exp", "--num_iters_per_epoch", "4"]
        for split in ("train", "valid"):
            for scp, name in (("wav.scp", "speech_mix"), ("spk1.scp", "speech_ref1")):
                options += [f"--{split}_data_path_and_name_and_type", f"data/{scp},{name},sound"]
                options += [f"--{split}_shape_file", "shape"]

        def begin(task, config, *more):
            seen = {}

            def run(cls, model, train_iter_factory, **kwargs):
                weights = model.state_dict().items()
                seen["weights"] = {k: v for k, v in weights if not k.startswith("distiller.")}
                seen["batches"] = [
                    batch["speech_mix"]
                    for epoch in (1, 2)
                    for _, batch in train_iter_factory.build_iter(epoch)
                ]

            monkeypatch.setattr(task.trainer, "run", classmethod(run))
            Path("train.yaml").write_text(yaml.safe_dump(config))
            task.main(cmd=["--config", "train.yaml", *options, *more])
            return seen["weights"], torch.stack(seen["batches"])

        return begin

    @pytest.fixture
    def distil(self, begin):
        """Function: as ``begin``, of a distillation from an untrained teacher."""
        Path("teacher.yaml").write_text(yaml.safe_dump(TINY))
        parser = EnhancementTask.get_parser()
        args = parser.parse_args(["--config", "teacher.yaml", "--output_dir", "teacher"])
        torch.save(EnhancementTask.build_model(args).state_dict(), "teacher.pth")
        Path("config.yaml").write_text(yaml.safe_dump(vars(args)))
        teacher = ("--teacher_config", "config.yaml", "--teacher_model_file", "teacher.pth")
        return lambda *more: begin(EnhancementKDTask, TINY | DISTILLATION, *teacher, *more)

    def test_same_seed_same_student_and_same_batches_with_and_without_teacher(self, begin, distil):
        weights, batches = begin(EnhancementTask, TINY, "--seed", "2")
        distilled, its_batches = distil("--seed", "2", "--distill_weight", "3")
        assert weights.keys() == distilled.keys()
        assert all(torch.equal(weights[key], distilled[key]) for key in weights)
        assert len(batches) > 4 and torch.equal(batches, its_batches)

    def test_another_seed_gives_another_student_and_another_order(self, begin):
        first, batches = begin(EnhancementTask, TINY, "--seed", "1")
        second, others = begin(EnhancementTask, TINY, "--seed", "2")
        assert not all(torch.equal(first[key], second[key]) for key in first)
        assert batches.shape != others.shape or not torch.equal(batches, others)
