"""Stages 6 and 7: train a teacher, a student, or a student with a teacher (distillation)."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from espnet2_tfckd.cli import atomic_write, run_command
from espnet2_tfckd.models.configuration import check_rate, rate_arguments, read_configuration
from espnet2_tfckd.stages.collect_stats import SHAPE_FILES, read_shapes
from espnet2_tfckd.stages.espnet import data_arguments, only_one, run_logged
from espnet2_tfckd.stages.format import parse_rate
from espnet2_tfckd.training_log import Progress

FINISHED = "finished"  # this file in the training directory says so


@dataclass(frozen=True)
class Training:
    """One training as its options describe it; fields are named after the options."""

    config: Path
    exp_dir: Path
    train_dir: str
    valid_dir: str
    stats_dir: Path
    audio_format: str
    ngpu: int
    distill_config: Path | None
    teacher_exp: Path | None
    inference_model: str
    enh_args: str
    fs: int | None = None

    @property
    def output_dir(self) -> Path:
        """What ESPnet writes to: the plain student is taken out of a distillation afterwards."""
        return self.exp_dir / "distillation" if self.distill_config else self.exp_dir

    @property
    def teacher_files(self) -> tuple[Path, Path] | None:
        """Configuration and checkpoint of the teacher."""
        if self.teacher_exp is None:
            return None
        return self.teacher_exp / "config.yaml", self.teacher_exp / self.inference_model

    def merged_config(self) -> dict:
        """Contents of the YAML, with those of the distillation's added to it.

        Raises:
            FileNotFoundError: There is no such YAML.
            ValueError: It is none.
        """
        merged: dict = {}
        for path in filter(None, (self.config, self.distill_config)):
            try:
                contents = yaml.safe_load(path.read_text(encoding="utf-8"))
            except yaml.YAMLError as error:
                raise ValueError(f"{path} is not valid YAML: {error}") from error
            if not isinstance(contents, dict):
                raise ValueError(f"{path} holds no options, as in 'max_epoch: 10'")
            merged |= contents
        return merged

    def settings(self) -> dict:
        """Everything that the trained model depends on.

        Raises:
            FileNotFoundError: The teacher is not trained, or stage 4 or 5 has not been run.
        """
        settings = {**self.merged_config(), "enh_args": self.enh_args}
        for split in ("train", "valid"):
            settings[f"{split} data"] = _digest(self.stats_dir / split / SHAPE_FILES[0])
        for path in self.teacher_files or ():
            if not path.is_file():
                raise FileNotFoundError(f"the teacher's {path} is not there: run stage 6 first")
            settings[f"teacher's {path.name}"] = _digest(path)
        noises = self.espnet_options(noise_scp=None).noise_scp or []
        for path in map(Path, [noises] if isinstance(noises, str) else noises):
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path}, named as noise_scp, is not there: stage 4 with --remix_snr makes one"
                )
            settings[f"noises in {path}"] = _digest(path)
        return settings

    def espnet_options(self, **defaults: object) -> argparse.Namespace:
        """Some of ESPnet's options with the values they will have, given ESPnet's defaults."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for name, default in defaults.items():
            parser.add_argument(f"--{name}", default=self.merged_config().get(name, default))
        return parser.parse_known_args(shlex.split(self.enh_args))[0]

    def espnet_command(self, config: Path) -> list[str]:
        """Arguments of the interpreter that run ESPnet's trainer."""
        program = "enh_kd_train" if self.distill_config else "enh_train"
        command = ["-m", f"espnet2_tfckd.bin.{program}", "--config", str(config)]
        command += data_arguments(self.train_dir, self.valid_dir, self.audio_format)
        for split in ("train", "valid"):
            for name in SHAPE_FILES:
                command += [f"--{split}_shape_file", str(self.stats_dir / split / name)]
        command += ["--resume", "true", "--output_dir", str(self.output_dir)]
        command += ["--ngpu", str(self.ngpu)]
        if self.ngpu > 1:
            command += ["--multiprocessing_distributed", "true"]
        if self.teacher_files:
            teacher_config, teacher_model = map(str, self.teacher_files)
            command += ["--teacher_config", teacher_config, "--teacher_model_file", teacher_model]
        if self.fs:
            kinds = self.espnet_options(encoder="stft", decoder="stft")
            command += rate_arguments(self.fs, kinds.encoder, kinds.decoder)
        return command + shlex.split(self.enh_args)


def train(training: Training) -> Path:
    """Train until the last epoch, from where an earlier run was interrupted if there was one.

    Args:
        training: What to train.

    Returns:
        Path of the checkpoint ``<exp_dir>/<inference_model>``, beside which ESPnet's
        ``config.yaml`` lies.

    Raises:
        FileNotFoundError: A file that is needed is not there.
        ValueError: A YAML is none, there is too little data for a batch, or ``exp_dir`` holds a
            training with another configuration.
        RuntimeError: ESPnet failed; the message names its log.
    """
    _refuse_too_little_data(training)
    settings = training.settings()
    if training.fs and training.teacher_files:
        teacher = training.teacher_files[0]
        check_rate(read_configuration(teacher), training.fs, f"the teacher {teacher.parent}")
    with only_one(training.output_dir):
        _refuse_other_settings(training, settings)
        if not (training.output_dir / FINISHED).exists():
            _run(training, settings)
        checkpoint = training.exp_dir / training.inference_model
        if training.distill_config and not checkpoint.exists():
            from espnet2_tfckd.checkpoint import export_student

            export_student(training.output_dir, training.exp_dir, training.inference_model)
    if not checkpoint.exists():
        there = ", ".join(sorted(path.name for path in training.exp_dir.glob("*.pth")))
        raise FileNotFoundError(
            f"training left no {checkpoint}: give another --inference_model ({there})"
        )
    return checkpoint


def _run(training: Training, settings: dict) -> None:
    output_dir, exp_dir = training.output_dir, training.exp_dir
    with atomic_write(output_dir / "train.yaml") as temporary:
        merged = yaml.safe_dump(training.merged_config(), sort_keys=False)
        temporary.write_text(merged, encoding="utf-8")
    with atomic_write(output_dir / "settings.json") as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    with atomic_write(exp_dir / "run.sh") as temporary:
        temporary.write_text(_resume_script(training), encoding="utf-8")
        temporary.chmod(0o755)
    for path in exp_dir.glob("*.pth") if training.distill_config else ():
        path.unlink()  # of a student that was exported from an earlier training
    progress = Progress(exp_dir.name)
    command = training.espnet_command(output_dir / "train.yaml")
    run_logged(command, exp_dir / "train.log", progress.read)
    (output_dir / FINISHED).touch()


def _refuse_other_settings(training: Training, settings: dict) -> None:
    record = training.output_dir / "settings.json"
    results = [training.output_dir / name for name in ("checkpoint.pth", FINISHED)]
    if not (record.exists() and any(path.exists() for path in results)):
        return
    before, now = json.loads(record.read_text(encoding="utf-8")), json.loads(json.dumps(settings))
    changes = [
        f"  {key}: {before.get(key)} -> {now.get(key)}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    if changes:
        sources = " with ".join(str(p) for p in (training.config, training.distill_config) if p)
        raise ValueError(
            f"{training.exp_dir} was trained with other settings ({record}) than {sources} "
            "asks for:\n" + "\n".join(changes) + "\n"
            f"Undo the change, or keep both: copy the YAML to a new name, which names the "
            f"experiment, or use another --expdir. To train anew: rm -r {training.exp_dir}"
        )


def _refuse_too_little_data(training: Training) -> None:
    """ESPnet trains on nothing when no batch can be filled."""
    options = training.espnet_options(
        iterator_type="sequence",
        valid_iterator_type=None,
        chunk_length="500",
        chunk_shift_ratio=0.5,
        batch_size=20,
        valid_batch_size=None,
    )
    iterators = (options.iterator_type, options.valid_iterator_type or options.iterator_type)
    sizes = (options.batch_size, options.valid_batch_size or options.batch_size)
    chunk = min(int(number) for number in re.findall(r"\d+", str(options.chunk_length)))
    shift = max(1, int(chunk * float(options.chunk_shift_ratio)))
    for split, iterator, size in zip(("train", "valid"), iterators, map(int, sizes), strict=True):
        if iterator != "chunk":
            continue
        lengths = read_shapes(training.stats_dir / split / SHAPE_FILES[0]).values()
        chunks = sum((length - chunk) // shift + 1 for length in lengths if length > chunk)
        if chunks < size:
            raise ValueError(
                f"the {split} set cannot fill a batch: its {len(lengths)} utterances (of up to "
                f"{max(lengths)} samples) give {chunks} chunks of {chunk} samples, a batch takes "
                f"{size}. Use more or longer utterances, or lower chunk_length or batch_size in "
                f"{training.config}"
            )


def _resume_script(training: Training) -> str:
    """A script that goes on with a training from wherever it is called."""
    command = [sys.executable, "-m", "espnet2_tfckd.stages.train"]
    for name, value in vars(training).items():
        command += [f"--{name}={value}"] if value is not None else []
    recipe = shlex.quote(os.path.relpath(Path.cwd(), training.exp_dir))
    exported = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    lines = [
        "#!/usr/bin/env bash",
        "# Goes on with this training; does nothing when it is finished.",
        f'cd "$(dirname "$0")"/{recipe} || exit 1',
        *(f"export {name}={shlex.quote(value)}" for name, value in exported.items() if value),
        f"exec {shlex.join(command)}",
    ]
    return "\n".join(lines) + "\n"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def get_parser() -> argparse.ArgumentParser:
    """The command line of these stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML of ESPnet's options")
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment directory to write")
    parser.add_argument("--train_dir", required=True, help="data directory to train on")
    parser.add_argument("--valid_dir", required=True, help="data directory to validate on")
    parser.add_argument("--stats_dir", type=Path, required=True, help="directory of stage 5")
    parser.add_argument("--audio_format", default="wav", help="of stage 3")
    parser.add_argument("--ngpu", type=int, default=0, help="number of GPUs; 0: CPU")
    parser.add_argument("--distill_config", type=Path, help="YAML of the distillation")
    parser.add_argument("--teacher_exp", type=Path, help="experiment directory of the teacher")
    parser.add_argument(
        "--inference_model", default="valid.loss.best.pth", help="checkpoint of teacher and student"
    )
    parser.add_argument("--fs", type=parse_rate, help="sampling rate of the data, e.g. 16k")
    parser.add_argument("--enh_args", default="", help='more of ESPnet\'s options: "--max_epoch 2"')
    return parser


def main() -> None:
    """Run the stage from the command line."""
    parser = get_parser()
    options = parser.parse_args()
    if (options.distill_config is None) != (options.teacher_exp is None):
        parser.error("--distill_config and --teacher_exp go together")
    print(f"trained model: {train(Training(**vars(options)))}")


if __name__ == "__main__":
    run_command(main)
