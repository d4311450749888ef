"""Stages 6 and 7: train a teacher, a student, or a student with a teacher (distillation)."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from espnet2_tfckd.cli import atomic_write, hertz, run_command
from espnet2_tfckd.data.datadir import read_scp
from espnet2_tfckd.data.freshness import RECORD, change, changes, read_record, write_record
from espnet2_tfckd.data.locking import LOCK, only_one
from espnet2_tfckd.models.configuration import CHECKPOINT, check_rate, read_configuration
from espnet2_tfckd.training.log import Outcome, Progress
from espnet2_tfckd.training.process import run_logged
from espnet2_tfckd.training.ranks import LOCK_VARIABLE, job_ended_early, launcher, rendezvous
from espnet2_tfckd.training.settings import (
    DEFAULT_BATCH_SIZE,
    UNFINISHED,
    Training,
    check_batch_size,
)
from espnet2_tfckd.training.statistics import SHAPE_FILES, read_shapes

FINISHED = "finished"  # this file in the training directory says so


def train(training: Training) -> Path:
    """Train until the last epoch; go on where an earlier run was interrupted.

    Args:
        training: What to train.

    Returns:
        Path of the checkpoint ``<exp_dir>/<inference_model>``, beside which ESPnet's
        ``config.yaml`` lies.

    Raises:
        FileNotFoundError: If a file that is needed is not there.
        ValueError: If a YAML cannot be used, there is too little data for a batch, ``exp_dir``
            holds a training that was made of something else, or the training cannot be spread over
            as many processes.
        RuntimeError: If ESPnet fails or the training diverges; the message names ESPnet's log.
    """
    check_batch_size(training.config, training.distill_config, training.enh_args, training.ranks)
    _refuse_too_little_data(training)
    _refuse_missing_estimates(training)
    if training.fs and training.teacher_files and training.teacher_files[0].exists():
        teacher = training.teacher_files[0]
        check_rate(read_configuration(teacher), training.fs, f"the teacher {teacher.parent}")
    with only_one(training.output_dir):
        before = read_record(training.output_dir / RECORD)
        now = training.made_of(before)
        if _holds_a_training(training) and (reasons := changes(before, now)):
            if not training.overwrite:
                raise ValueError(_other_training(training, before, reasons))
            print(f"{training.exp_dir}: overwritten, since {change(before, now)}")
            _empty(training.exp_dir)
        write_record(training.output_dir / RECORD, now)
        if (training.output_dir / FINISHED).exists():
            print(f"{training.exp_dir}: finished, and up to date")
        else:
            _run(training)
        checkpoint = training.exp_dir / training.inference_model
        if training.distill_config and not checkpoint.exists():
            from espnet2_tfckd.models.checkpoint import export_student

            export_student(training.output_dir, training.exp_dir, training.inference_model)
    if not checkpoint.exists():
        there = ", ".join(sorted(path.name for path in training.exp_dir.glob("*.pth")))
        raise FileNotFoundError(
            f"training left no {checkpoint}: give another --inference_model ({there})"
        )
    return checkpoint


def _run(training: Training) -> None:
    output_dir, exp_dir = training.output_dir, training.exp_dir
    for line in training.changes_by_distillation():
        print(f"{exp_dir.name}: {training.distill_config} changes the student: {line}")
    with atomic_write(output_dir / "train.yaml") as temporary:
        merged = yaml.safe_dump(training.merged_config(), sort_keys=False)
        temporary.write_text(merged, encoding="utf-8")
    with atomic_write(exp_dir / "run.sh") as temporary:
        temporary.write_text(_resume_script(training), encoding="utf-8")
        temporary.chmod(0o755)
    for path in exp_dir.glob("*.pth") if training.distill_config else ():
        path.unlink()  # of a student that was exported from an earlier training
    log = exp_dir / "train.log"
    earlier = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    progress, outcome = Progress(exp_dir.name), Outcome(earlier)

    def read(line: str) -> None:
        progress.read(line)
        outcome.read(line)

    while not _run_once(training, log, read):
        print(f"{exp_dir.name}: the job was ended early; going on in another", flush=True)
    if diverged := outcome.divergence():
        raise RuntimeError(
            f"{exp_dir}: {diverged}\n"
            "Lower the learning rate (optim_conf), set grad_clip, or lower distill_weight in a "
            "distillation, and check the audio; then train again with --overwrite true. "
            f"The log is {log}"
        )
    (output_dir / FINISHED).touch()


def _run_once(training: Training, log: Path, on_line: Callable[[str], None]) -> bool:
    """Train until the end, or until Slurm ends the job; whether it was the end."""
    output_dir = training.output_dir
    saved = _saved(output_dir)
    logged = log.stat().st_size if log.exists() else 0
    try:
        with rendezvous(output_dir, training.num_nodes) as meeting:
            run_logged(
                training.espnet_command(output_dir / "train.yaml") + meeting,
                log,
                on_line,
                launcher(training.num_nodes, training.slurm),
                {LOCK_VARIABLE: str(output_dir / LOCK)},
            )
    except RuntimeError as error:
        if training.slurm is None or not job_ended_early(log, logged):
            raise
        if _saved(output_dir) == saved:
            raise RuntimeError(
                f"{training.exp_dir}: the job ended before anything was saved: ask for more time "
                "(--time in --slurm_train_opts), or save more often (save_minutes in "
                f"{training.config})"
            ) from error
        return False
    return True


def _saved(output_dir: Path) -> list[int]:
    """When the checkpoints were written that a training can go on from."""
    files = (output_dir / name for name in ("checkpoint.pth", UNFINISHED))
    return [file.stat().st_mtime_ns for file in files if file.exists()]


def _holds_a_training(training: Training) -> bool:
    """Whether there are weights that a training would continue or overwrite."""
    folders = {training.output_dir, training.exp_dir}
    return any(any(folder.glob("*.pth")) for folder in folders)


def _other_training(training: Training, before: dict | None, reasons: list[str]) -> str:
    if before is None:
        reasons = ["no record of this version says what it was made of"]
    finished = (training.output_dir / FINISHED).exists()
    return "\n".join(
        [
            f"{training.exp_dir} holds {'a finished' if finished else 'an unfinished'} training, "
            f"which is kept. It differs from what {training.config} asks for:",
            *(f"  {reason}" for reason in reasons[:20]),
            "Undo the change, or go on in one of two ways: train beside it with another --expdir; "
            "or empty its directory, and train there, with --overwrite true",
        ]
    )


def _empty(folder: Path) -> None:
    """Remove everything except the lock, which this process holds."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            _empty(path)
            if not any(path.iterdir()):
                path.rmdir()
        elif path.name != LOCK:
            path.unlink()


def _refuse_too_little_data(training: Training) -> None:
    """Refuse too little data: ESPnet trains on nothing if no batch can be filled."""
    options = training.espnet_options(
        iterator_type="sequence",
        valid_iterator_type=None,
        chunk_length="500",
        chunk_shift_ratio=0.5,
        batch_size=DEFAULT_BATCH_SIZE,
        valid_batch_size=None,
    )
    iterators = (options.iterator_type, options.valid_iterator_type or options.iterator_type)
    sizes = (options.batch_size, options.valid_batch_size or options.batch_size)
    chunk = min(int(number) for number in re.findall(r"\d+", str(options.chunk_length)))
    shift = max(1, int(chunk * float(options.chunk_shift_ratio)))
    for split, iterator, size in zip(("train", "valid"), iterators, map(int, sizes), strict=True):
        if iterator != "chunk":
            continue
        lengths = list(read_shapes(training.stats_dir / split / SHAPE_FILES[0]).values())
        ranks = training.ranks
        # each process cuts the chunks of its own utterances, for its share of a batch
        chunks = ranks * min(
            sum((length - chunk) // shift + 1 for length in lengths[n::ranks] if length > chunk)
            for n in range(ranks)
        )
        if chunks < size:
            among = f", in each of {ranks} processes {chunks // ranks}" if ranks > 1 else ""
            raise ValueError(
                f"the {split} set cannot fill a batch: its {len(lengths)} utterances (of up to "
                f"{max(lengths)} samples) give {chunks} chunks of {chunk} samples{among}, a batch "
                f"takes {size}. Use more or longer utterances, or lower chunk_length or "
                f"batch_size in {training.config}"
            )


def _refuse_missing_estimates(training: Training) -> None:
    """ESPnet names one utterance and fails when the training has begun."""
    if training.teacher_outputs is None:
        return
    if not training.teacher_outputs.is_file():
        raise FileNotFoundError(
            f"{training.teacher_outputs} is not there: write the teacher's estimates first, with "
            "python -m espnet2_tfckd.stages.teacher_outputs"
        )
    estimates = read_scp(training.teacher_outputs)
    mixtures = read_scp(Path(training.train_dir) / "wav.scp")
    if missing := sorted(mixtures.keys() - estimates.keys()):
        raise ValueError(
            f"{training.teacher_outputs} has no estimate of {len(missing)} of {len(mixtures)} "
            f"training utterances, such as {missing[0]}: write the teacher's estimates again"
        )


def _resume_script(training: Training) -> str:
    """A script that continues a training, wherever it is called from."""
    command = [sys.executable, "-m", "espnet2_tfckd.stages.train", *training.arguments()]
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


def get_parser() -> argparse.ArgumentParser:
    """The command line of these stages."""
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", type=Path, required=True, help="YAML of ESPnet's options")
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment directory to write")
    parser.add_argument("--train_dir", required=True, help="data directory to train on")
    parser.add_argument("--valid_dir", required=True, help="data directory to validate on")
    parser.add_argument("--stats_dir", type=Path, required=True, help="directory of stage 5")
    parser.add_argument("--audio_format", help="of stage 3")
    parser.add_argument("--ngpu", type=int, help="GPUs of each node; 0: CPU")
    parser.add_argument("--num_nodes", type=int, help="nodes that the training is spread over")
    parser.add_argument(
        "--slurm",
        metavar="OPTIONS",
        help="train in a job that srun asks for with these options; without this, on several "
        "nodes, in the allocation that this runs in",
    )
    parser.add_argument("--distill_config", type=Path, help="YAML of the distillation")
    parser.add_argument("--teacher_exp", type=Path, help="experiment directory of the teacher")
    parser.add_argument(
        "--teacher_outputs",
        type=Path,
        metavar="SCP",
        help="the teacher's estimates of the training mixtures, instead of the teacher itself: "
        "teacher.scp of the stage teacher_outputs; for schemes that compare outputs",
    )
    parser.add_argument(
        "--inference_model", default=CHECKPOINT, help="checkpoint of teacher and student"
    )
    parser.add_argument("--fs", type=hertz, help="sampling rate of the data, e.g. 16k")
    parser.add_argument("--enh_args", help='more of ESPnet\'s options: "--max_epoch 2"')
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="empty a directory whose training was made of other data or options, and train there",
    )
    return parser


def main() -> None:
    """Run the stage from the command line."""
    parser = get_parser()
    options = parser.parse_args()
    teachers = {"teacher_exp", "teacher_outputs"} & vars(options).keys()
    if len(teachers) != ("distill_config" in options):
        parser.error("--distill_config and one of --teacher_exp and --teacher_outputs go together")
    print(f"trained model: {train(Training(**vars(options)))}")


if __name__ == "__main__":
    run_command(main)
