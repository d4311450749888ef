"""Stages 5 to 7 without ESPnet's trainer: what is refused, merged, shown and left behind."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from espnet2_tfckd.data.datadir import DataDir, read_data_dir, write_data_dir
from espnet2_tfckd.data.freshness import RECORD, write_record
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.stages.train import train
from espnet2_tfckd.training.process import data_arguments, run_logged
from espnet2_tfckd.training.ranks import check_batches, launcher
from espnet2_tfckd.training.settings import UNFINISHED, Training
from espnet2_tfckd.training.statistics import audio_made_of, read_shapes

CHUNKED = {"iterator_type": "chunk", "chunk_length": 1000, "batch_size": 2, "max_epoch": 5}


@pytest.fixture
def training(tmp_path, monkeypatch):
    """A training whose files are all there, of four utterances of 2000 samples."""
    monkeypatch.chdir(tmp_path)
    Path("student.yaml").write_text(yaml.safe_dump(CHUNKED))
    for split in ("train", "valid"):
        stats = Path("stats", split)
        stats.mkdir(parents=True)
        for name in ("speech_mix_shape", "speech_ref1_shape"):
            (stats / name).write_text("".join(f"u{i} 2000\n" for i in range(4)))
        audio = {f"u{i}": f"u{i}.wav" for i in range(4)}
        write_data_dir(Path("dump", split), DataDir(audio, audio, dict.fromkeys(audio, "u")))
    for i in range(4):
        Path(f"u{i}.wav").write_text(f"audio {i}")
    data = {split: read_data_dir(Path("dump", split)) for split in ("train", "valid")}
    write_record(Path("stats", RECORD), audio_made_of(data, None))
    return Training(
        config=Path("student.yaml"),
        exp_dir=Path("exp/enh_student"),
        train_dir="dump/train",
        valid_dir="dump/valid",
        stats_dir=Path("stats"),
        audio_format="wav",
        ngpu=0,
        distill_config=None,
        teacher_exp=None,
        inference_model="valid.loss.best.pth",
        enh_args="",
    )


@pytest.fixture
def trainer(monkeypatch):
    """Stands in for ESPnet's process: records its command and leaves a checkpoint."""
    commands = []

    def run(command, log, on_line, launcher, variables):
        commands.append(command)
        output_dir = Path(command[command.index("--output_dir") + 1])
        (output_dir / "valid.loss.best.pth").touch()
        (output_dir / "checkpoint.pth").touch()

    monkeypatch.setattr("espnet2_tfckd.stages.train.run_logged", run)
    return commands


class TestTraining:
    def test_espnet_is_given_data_shapes_and_directory(self, training, trainer):
        train(replace(training, enh_args="--max_epoch 2"))
        command = " ".join(trainer[0])
        assert command.startswith("-m espnet2_tfckd.bin.enh_train --config")
        assert "--train_data_path_and_name_and_type dump/train/wav.scp,speech_mix,sound" in command
        assert (
            "--valid_data_path_and_name_and_type dump/valid/spk1.scp,speech_ref1,sound" in command
        )
        assert "--train_shape_file stats/train/speech_ref1_shape" in command
        assert "--resume true --output_dir exp/enh_student" in command
        assert command.endswith("--ngpu 0 --max_epoch 2")

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, "--encoder_conf default_fs=8000 --decoder_conf default_fs=8000"),
            ({"encoder": "conv", "decoder": "conv"}, "--sample_rate 8000"),
        ],
    )
    def test_espnet_is_told_the_rate_of_the_data(self, training, trainer, options, expected):
        """It wins over that of the YAML, which is for the recipe's default."""
        Path("student.yaml").write_text(
            yaml.safe_dump({**CHUNKED, "sample_rate": 16000, **options})
        )
        train(replace(training, fs=8000))
        command = " ".join(trainer[0])
        assert "--sample_rate 8000" in command and command.endswith(expected)

    def test_a_teacher_at_another_rate_is_refused(self, training, trainer):
        teacher = Path("exp/enh_teacher")
        teacher.mkdir(parents=True)
        stft = {"encoder": "stft", "encoder_conf": {}, "decoder": "stft", "decoder_conf": {}}
        model = {"separator": "dpdcrn", "separator_conf": {}, "model_conf": {}, "init": None}
        (teacher / "valid.loss.best.pth").touch()
        Path("distill.yaml").write_text("distiller: at\n")
        distilled = replace(training, distill_config=Path("distill.yaml"), teacher_exp=teacher)
        for rate, fs in ((16000, 8000), (48000, 16000)):
            options = {**stft, **model, "sample_rate": rate}
            (teacher / "config.yaml").write_text(yaml.safe_dump(options))
            with pytest.raises(ValueError, match=f"enh_teacher works at {rate} Hz.*{fs} Hz"):
                train(replace(distilled, fs=fs))
        assert not trainer

    def test_archives_are_read_as_such(self, training):
        arguments = data_arguments("dump/train", "dump/valid", "flac.ark")
        assert "dump/train/wav.scp,speech_mix,kaldi_ark" in arguments

    def test_a_finished_training_is_not_run_again(self, training, trainer):
        assert train(training) == Path("exp/enh_student/valid.loss.best.pth")
        train(training)
        assert len(trainer) == 1

    def test_an_unfinished_training_is_run_again(self, training, trainer):
        train(training)
        Path("exp/enh_student/finished").unlink()
        train(training)
        assert len(trainer) == 2

    @pytest.mark.parametrize("change", ["yaml", "enh_args", "data", "ranks"])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_training_made_of_something_else_is_kept_and_named_or_overwritten(
        self, training, trainer, change, overwrite
    ):
        train(training)
        Path("exp/enh_student/notes.txt").write_text("of the user")
        if change == "yaml":
            Path("student.yaml").write_text(yaml.safe_dump({**CHUNKED, "max_epoch": 9}))
            expected = "max_epoch was 5, is 9"
        elif change == "enh_args":
            training = replace(training, enh_args="--max_epoch 9")
            expected = "enh_args was '', is '--max_epoch 9'"
        elif change == "ranks":
            training = replace(training, ngpu=2)
            expected = "ranks was 1, is 2"
        else:
            change_contents_of("u2.wav")
            expected = "train data changed"
        if overwrite:
            train(replace(training, overwrite=True))
            assert len(trainer) == 2 and not Path("exp/enh_student/notes.txt").exists()
            train(training)  # and is up to date then
            assert len(trainer) == 2
            return
        with pytest.raises(ValueError, match="exp/enh_student holds a finished training") as error:
            train(training)
        assert expected in str(error.value) and "student.yaml" in str(error.value)
        assert "--expdir" in str(error.value) and "--overwrite true" in str(error.value)
        assert len(trainer) == 1 and Path("exp/enh_student/notes.txt").exists()

    def test_audio_that_was_moved_or_touched_is_the_same(self, training, trainer):
        train(training)
        Path("u1.wav").rename("elsewhere.wav")
        shutil.copy("elsewhere.wav", "u1.wav")
        os.utime("u2.wav", (0, 0))
        train(training)
        assert len(trainer) == 1

    def test_audio_that_changed_after_stage_5_is_refused(self, training, trainer):
        Path("u1.wav").write_text("Audio 1")
        with pytest.raises(ValueError, match="train u1 mixture.*run stage 5 again"):
            train(training)

    @pytest.mark.parametrize("name", ["valid.loss.best.pth", "checkpoint.pth", "3epoch.pth"])
    def test_weights_of_unknown_origin_are_not_gone_on_from(self, training, trainer, name):
        training.exp_dir.mkdir(parents=True)
        (training.exp_dir / name).write_text("of the user")
        with pytest.raises(ValueError, match="no record .* says what it was made of"):
            train(training)
        assert (training.exp_dir / name).read_text() == "of the user"

    @pytest.mark.parametrize(
        ("losses", "last_line"),
        [
            (("nan", "nan"), "The gradients at all steps are invalid in this epoch. Something"),
            ((4.0, "inf"), "The training was finished at 2 epochs"),
            (("nan", 4.0), "The training was finished at 2 epochs"),
        ],
    )
    def test_a_training_that_diverged_is_not_finished(
        self, training, trainer, monkeypatch, losses, last_line
    ):
        epoch = "{}epoch results: [train] loss={}, train_time=1, total_count=5, [valid] loss={}"

        said = [epoch.format(1, 4.5, -2.25), epoch.format(2, *losses), last_line]

        def diverge(command, log, on_line, *_):
            for line in said:
                on_line(line)
            with open(log, "a") as stream:
                stream.write("".join(f"{line}\n" for line in said))
            (training.output_dir / "checkpoint.pth").touch()

        monkeypatch.setattr("espnet2_tfckd.stages.train.run_logged", diverge)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="diverged in epoch 2") as error:
                train(training)
            assert "epoch 1: 4.5, -2.25" in str(error.value)
            assert "--overwrite true" in str(error.value)
            assert not (training.output_dir / "finished").exists()
            said = ["The training has already reached at max_epoch: 3"] * (len(losses) > 0)
            if last_line.startswith("The gradients"):  # the epoch is tried again
                said = [last_line]

    def test_settings_may_change_as_long_as_nothing_is_trained(self, training, trainer):
        train(training)
        for name in ("checkpoint.pth", "valid.loss.best.pth", "finished"):
            Path("exp/enh_student", name).unlink()
        train(replace(training, enh_args="--max_epoch 9"))
        assert len(trainer) == 2

    def test_a_missing_checkpoint_is_named_with_those_that_are_there(self, training, trainer):
        with pytest.raises(FileNotFoundError, match="other.pth.*valid.loss.best.pth"):
            train(replace(training, inference_model="other.pth"))

    def test_two_trainings_in_one_directory_are_refused(self, training, trainer):
        with only_one(training.exp_dir), pytest.raises(RuntimeError, match="another process"):
            train(training)

    def test_statistics_must_be_there(self, training):
        with pytest.raises(FileNotFoundError, match="stage 5"):
            train(replace(training, stats_dir=Path("elsewhere")))

    @pytest.mark.parametrize("text, problem", [("a: [", "not valid YAML"), ("- a", "no options")])
    def test_a_damaged_yaml_is_refused(self, training, text, problem):
        Path("student.yaml").write_text(text)
        with pytest.raises(ValueError, match=f"student.yaml.*{problem}"):
            train(training)

    @pytest.mark.parametrize("saved", ["checkpoint.pth", UNFINISHED, None])
    def test_another_job_follows_one_that_slurm_ended_if_it_saved(
        self, training, monkeypatch, saved, capsys
    ):
        jobs = []

        def run(command, log, on_line, launcher, variables):
            folder = Path(command[command.index("--output_dir") + 1])
            jobs.append(launcher[0])
            if len(jobs) == 3:
                (folder / "valid.loss.best.pth").touch()
                return
            if saved:
                (folder / saved).write_text(str(len(jobs)))
            raise RuntimeError("the job ended")

        monkeypatch.setattr("espnet2_tfckd.stages.train.run_logged", run)
        monkeypatch.setattr("espnet2_tfckd.stages.train.launcher", lambda *options: ["srun"])
        monkeypatch.setattr("espnet2_tfckd.stages.train.job_ended_early", lambda log, start: True)
        by_slurm = replace(training, slurm="--time 1:00:00")
        if saved:
            train(by_slurm)
            assert len(jobs) == 3
            assert "ended early; going on in another" in capsys.readouterr().out
        else:
            with pytest.raises(RuntimeError, match=r"before anything was saved.*save_minutes in"):
                train(by_slurm)
            assert len(jobs) == 1

    def test_saving_more_often_makes_no_other_training(self, training, trainer):
        train(replace(training, enh_args="--max_epoch 2"))
        train(replace(training, enh_args="--save_minutes 1 --max_epoch 2"))
        train(replace(training, enh_args="--max_epoch 2 --save_minutes=0.5"))
        Path("student.yaml").write_text(Path("student.yaml").read_text() + "\nsave_minutes: 3\n")
        train(replace(training, enh_args="--max_epoch 2"))
        with pytest.raises(ValueError, match="enh_args"):
            train(replace(training, enh_args="--save_minutes 1 --max_epoch 3"))

    def test_noises_to_mix_must_be_there_and_stay_the_same(self, training, trainer):
        remixed = replace(training, enh_args="--preprocessor enh --noise_scp noise.scp")
        with pytest.raises(FileNotFoundError, match="noise.scp.* is not there: .*--remix_snr"):
            train(remixed)
        Path("noise.scp").write_text("u0 u0.wav\n")
        train(remixed)
        Path("noise.scp").write_text("u1 u1.wav\n")
        with pytest.raises(ValueError, match="noise.scp u1 was added"):
            train(remixed)

    def test_a_noise_that_changes_is_noticed(self, training, trainer):
        Path("noise.scp").write_text("hum hum.wav\n")
        Path("hum.wav").write_text("hum")
        remixed = replace(training, enh_args="--preprocessor enh --noise_scp noise.scp")
        train(remixed)
        Path("hum.wav").write_text("ham")
        with pytest.raises(ValueError, match="noise.scp hum was changed"):
            train(remixed)

    def test_the_resume_script_runs_the_same_training_from_anywhere(self, training, trainer):
        train(replace(training, enh_args="--max_epoch 2 --seed 3"))
        Path("exp/enh_student/run.sh").write_text(
            Path("exp/enh_student/run.sh").read_text().replace("exec ", "pwd; printf '%s\\n' ")
        )
        script = Path("exp/enh_student/run.sh").resolve()
        shown = subprocess.run([script], cwd="/", capture_output=True, text=True, check=True)
        lines = shown.stdout.splitlines()
        assert Path(lines[0]) == Path.cwd()
        assert "--enh_args=--max_epoch 2 --seed 3" in lines
        assert "--exp_dir=exp/enh_student" in lines


class TestDistillation:
    @pytest.fixture
    def distillation(self, training):
        Path("distill.yaml").write_text(yaml.safe_dump({"distiller": "at", "batch_size": 4}))
        teacher = Path("exp/enh_teacher")
        teacher.mkdir(parents=True)
        (teacher / "config.yaml").write_text("separator: dpdcrn\n")
        (teacher / "valid.loss.best.pth").write_text("weights")
        return replace(
            training,
            exp_dir=Path("exp/enh_student_distill"),
            distill_config=Path("distill.yaml"),
            teacher_exp=teacher,
        )

    @pytest.fixture
    def exported(self, monkeypatch):
        """Stands in for the export of the student: records its arguments."""
        calls = []

        def export(train_dir, exp_dir, checkpoint):
            calls.append((train_dir, exp_dir, checkpoint))
            (exp_dir / checkpoint).touch()

        monkeypatch.setattr("espnet2_tfckd.models.checkpoint.export_student", export)
        return calls

    def test_both_yamls_are_merged_and_the_teacher_named(self, distillation, trainer, exported):
        train(distillation)
        merged = yaml.safe_load(Path("exp/enh_student_distill/distillation/train.yaml").read_text())
        assert merged == {**CHUNKED, "distiller": "at", "batch_size": 4}
        command = " ".join(trainer[0])
        assert command.startswith("-m espnet2_tfckd.bin.enh_kd_train")
        assert "--teacher_config exp/enh_teacher/config.yaml" in command
        assert "--teacher_model_file exp/enh_teacher/valid.loss.best.pth" in command

    def test_dictionaries_are_merged_by_their_keys_and_changes_are_told(
        self, distillation, trainer, exported, capsys
    ):
        own = {"optim_conf": {"lr": 0.1, "eps": 1e-6}, "batch_size": 4}
        Path("student.yaml").write_text(yaml.safe_dump({**CHUNKED, **own}))
        change = {"distiller": "at", "optim_conf": {"lr": 0.2}, "batch_size": 2}
        Path("distill.yaml").write_text(yaml.safe_dump(change))
        train(distillation)
        merged = yaml.safe_load(Path("exp/enh_student_distill/distillation/train.yaml").read_text())
        assert merged["optim_conf"] == {"lr": 0.2, "eps": 1e-6} and merged["batch_size"] == 2
        said = capsys.readouterr().out
        assert "distill.yaml changes the student: optim_conf.lr was 0.1, is 0.2\n" in said
        assert "changes the student: batch_size was 4, is 2\n" in said
        assert said.count("changes the student") == 2

    def test_the_student_is_taken_out_once(self, distillation, trainer, exported):
        train(distillation)
        train(distillation)
        exp_dir = distillation.exp_dir
        assert exported == [(exp_dir / "distillation", exp_dir, "valid.loss.best.pth")]

    def test_another_teacher_is_refused(self, distillation, trainer, exported):
        train(distillation)
        Path("exp/enh_teacher/valid.loss.best.pth").write_text("other weights")
        with pytest.raises(ValueError, match="teacher's valid.loss.best.pth"):
            train(distillation)

    def test_the_teacher_must_be_trained(self, distillation):
        Path("exp/enh_teacher/valid.loss.best.pth").unlink()
        with pytest.raises(FileNotFoundError, match="teacher's exp/enh_teacher/.*stage 6"):
            train(distillation)


class TestTooLittleData:
    """Four utterances of 2000 samples, chunks of 1000 with half overlap: 12 chunks."""

    def test_as_many_chunks_as_a_batch_takes_will_do(self, training, trainer):
        train(replace(training, enh_args="--batch_size 12"))

    def test_one_more_is_too_many(self, training, trainer):
        with pytest.raises(ValueError, match="train set cannot fill a batch.*12 chunks.*takes 13"):
            train(replace(training, enh_args="--batch_size=13"))

    def test_the_validation_set_counts_too(self, training, trainer):
        with pytest.raises(ValueError, match="valid set"):
            train(replace(training, enh_args="--valid_batch_size 13"))

    def test_an_utterance_of_just_the_chunk_length_gives_no_chunk(self, training, trainer):
        with pytest.raises(ValueError, match="up to 2000 samples.* 0 chunks of 2000"):
            train(replace(training, enh_args="--chunk_length 2000"))

    def test_whole_utterances_need_no_chunk_length(self, training, trainer):
        train(replace(training, enh_args="--iterator_type sequence --chunk_length 2000"))


class TestProcess:
    def test_its_lines_come_through_and_stay_in_the_log(self, tmp_path):
        log, lines = tmp_path / "sub" / "train.log", []
        for word in ("first", "second"):
            run_logged(["-c", f"print('{word}'); print('line', end='')"], log, lines.append)
        assert lines == ["first", "second"]
        assert log.read_text() == "first\nlinesecond\nline"

    def test_a_failure_shows_the_last_error_and_names_the_log(self, tmp_path):
        code = "print('busy'); raise ValueError('the teacher does not fit:\\n  layer 1')"
        with pytest.raises(RuntimeError) as error:
            run_logged(["-c", code], tmp_path / "train.log", lambda line: None)
        message = str(error.value)
        assert message.startswith("ValueError: the teacher does not fit:\n  layer 1\n")
        assert str(tmp_path / "train.log") in message

    def test_a_wrong_option_is_shown(self, tmp_path):
        code = "import argparse; argparse.ArgumentParser().parse_args(['--wrong'])"
        with pytest.raises(RuntimeError, match="unrecognized arguments: --wrong"):
            run_logged(["-c", code], tmp_path / "train.log", lambda line: None)

    def test_a_process_that_is_killed_is_said_to_be(self, tmp_path):
        code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        with pytest.raises(RuntimeError, match="SIGKILL .out of memory"):
            run_logged(["-c", code], tmp_path / "train.log", lambda line: None)


class TestCommandLine:
    @pytest.mark.parametrize("stage", ["train", "collect_stats"])
    def test_help_needs_no_network_library(self, stage):
        code = (
            "import sys; import espnet2_tfckd.stages." + stage + ";"
            "sys.exit(any(name in sys.modules for name in ('torch', 'espnet2.tasks')))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_a_distillation_needs_a_teacher(self):
        command = [sys.executable, "-m", "espnet2_tfckd.stages.train", "--distill_config", "d.yaml"]
        command += "--config c --exp_dir e --train_dir t --valid_dir v --stats_dir s".split()
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2
        assert "--distill_config and one of --teacher_exp and --teacher_outputs go" in done.stderr

    def test_shapes_of_several_channels_count_samples(self, tmp_path):
        (tmp_path / "speech_mix_shape").write_text("a 1600,4\nb 800,4\n")
        assert read_shapes(tmp_path / "speech_mix_shape") == {"a": 1600, "b": 800}


def test_the_settings_are_kept_to_be_read(training, trainer):
    train(training)
    options = json.loads(Path("exp/enh_student", RECORD).read_text())["options"]
    assert options["max_epoch"] == 5 and options["enh_args"] == ""


def change_contents_of(file):
    """As stages 1 to 5 do with other data of the same ids and lengths."""
    Path(file).write_text(Path(file).read_text().upper())
    data = {split: read_data_dir(Path("dump", split)) for split in ("train", "valid")}
    write_record(Path("stats", RECORD), audio_made_of(data, None))


class TestSpreading:
    """What ESPnet and Slurm are told, and what is refused."""

    @pytest.fixture
    def slurm(self, tmp_path, monkeypatch):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "srun").touch(mode=0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")

    def test_several_gpus_of_one_machine(self, training, trainer):
        train(replace(training, ngpu=2, enh_args="--num_iters_per_epoch 101"))
        command = " ".join(trainer[0])
        assert "--ngpu 2 " in command and "--multiprocessing_distributed true" in command
        assert "dist_launcher" not in command and "dist_backend" not in command
        # every process of ESPnet visits so many
        assert command.endswith("--num_iters_per_epoch 51")

    def test_several_machines(self, training, monkeypatch, slurm):
        calls = []

        def run(command, log, on_line, start, variables):
            calls.append((" ".join(command), start))
            (training.output_dir / "valid.loss.best.pth").touch()

        monkeypatch.setattr("espnet2_tfckd.stages.train.run_logged", run)
        train(replace(training, num_nodes=2))
        [(command, start)] = calls
        assert start[:1] == ["srun"] and "--ntasks-per-node=1" in start
        assert "--dist_launcher slurm --dist_backend gloo" in command
        meeting = command.partition("--dist_init_method file://")[2]
        assert meeting.startswith(str(training.output_dir.resolve()))

    @pytest.mark.parametrize(
        ("iterator", "size", "expected"),
        [("sequence", 1, True), ("sequence", 4, False), ("chunk", 2, False)],
    )
    def test_every_process_has_an_utterance_to_validate_on(
        self,
        training,
        trainer,
        iterator,
        size,
        expected,
    ):
        options = {"valid_iterator_type": iterator, "valid_batch_size": size}
        Path("student.yaml").write_text(yaml.safe_dump({**CHUNKED, **options}))
        train(replace(training, ngpu=2))
        assert ("--valid_batch_size 2" in " ".join(trainer[0])) == expected

    def test_a_batch_that_does_not_divide_is_refused(self, training, trainer):
        with pytest.raises(ValueError, match="a batch of 2 utterances does not divide among 3"):
            train(replace(training, ngpu=3))
        assert not trainer

    def test_batches_of_whole_utterances_are_those_of_one_process(self, training, trainer):
        """There, ESPnet counts batches, of which every process has a part."""
        Path("student.yaml").write_text(yaml.safe_dump({**CHUNKED, "iterator_type": "sequence"}))
        train(replace(training, ngpu=3, enh_args="--num_iters_per_epoch 100"))
        assert " ".join(trainer[0]).count("--num_iters_per_epoch") == 1

    def test_processes_of_which_one_cannot_fill_its_share_are_refused(self, training, trainer):
        shape = training.stats_dir / "train" / "speech_mix_shape"
        shape.write_text("u0 2000\nu1 900\nu2 2000\nu3 900\n")
        train(training)
        with pytest.raises(ValueError, match="in each of 2 processes 0, a batch takes 2"):
            train(replace(training, ngpu=2, exp_dir=Path("exp/other")))

    def test_nodes_without_an_allocation_are_refused(self, training, monkeypatch, slurm):
        monkeypatch.delenv("SLURM_JOB_NUM_NODES")
        with pytest.raises(ValueError, match="--num_nodes 2 needs a Slurm allocation.*is none"):
            train(replace(training, num_nodes=2))

    def test_more_nodes_than_allocated_are_refused(self, slurm):
        assert launcher(1) == []
        asked = launcher(3, "--partition 'of us' -c 4")  # of a job that is still to be asked for
        assert asked[asked.index("--partition") + 1] == "of us" and asked[-1] == "sh"
        with pytest.raises(ValueError, match="and this one has 2: .*sbatch --nodes 3"):
            launcher(3)

    def test_all_trainings_of_a_recipe_are_checked_first(self, training, slurm):
        Path("teacher.yaml").write_text(yaml.safe_dump({**CHUNKED, "batch_size": 3}))
        student = (Path("student.yaml"), None)
        check_batches([student], 0, 2, "")
        with pytest.raises(ValueError, match="batch_size in teacher.yaml to a multiple of 2"):
            check_batches([student, (Path("teacher.yaml"), None)], 0, 2, "")
        check_batches([student, (Path("teacher.yaml"), None)], 0, 2, "--batch_size 4")
