"""Where an experiment finds its data and keeps its work; makes its jobs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from espnet2_tfckd.stages.experiment_jobs import MODEL, TEST_SET, Job
from espnet2_tfckd.stages.experiment_settings import Arm, Experiment, read_config

TUNING_SEED = 1
DATA_FILES = ("wav.scp", "spk1.scp", "metadata.csv")


@dataclass(frozen=True)
class Workspace:
    """The directories of an experiment.

    Attributes:
        experiment: What to run.
        data_dir: Directory of the data directories ``train``, ``valid`` and ``test``.
        stats_dir: Directory of stage 5.
        expdir: Directory of all the jobs' directories.
        given_teacher: Experiment directory of a trained teacher to use; None to train one.
        keep_audio: Whether enhanced audio stays when it is scored.
    """

    experiment: Experiment
    data_dir: Path
    stats_dir: Path
    expdir: Path
    given_teacher: Path | None
    keep_audio: bool

    @property
    def teacher_exp(self) -> Path:
        """Experiment directory of the teacher."""
        return self.given_teacher or self.expdir / "enh_teacher"

    def teacher_job(self) -> Job:
        """Train the teacher."""
        config, enh_args = self.experiment.teacher_config, self.experiment.teacher_args
        directory = self.teacher_exp
        return Job(
            kind="teacher",
            arm="teacher",
            directory=directory,
            training=self._training(config, directory, enh_args),
            training_inputs=self._training_inputs(config, enh_args),
            model_dir=None,
            test_dir=None,
            evaluation_inputs={},
        )

    def reference_job(self, name: str) -> Job:
        """Score the mixture (``noisy``) or the ``teacher``."""
        is_teacher = name == "teacher"
        return Job(
            kind="reference",
            arm=name,
            directory=self.expdir / name,
            training=(),
            training_inputs=self._teacher_files if is_teacher else {},
            model_dir=self.teacher_exp if is_teacher else None,
            keep_audio=self.keep_audio,
            **self._evaluation,
        )

    def tuning_job(self, arm: Arm, weight: float) -> Job:
        """Train for the short budget with one weight."""
        directory = self.expdir / "tuning" / arm.name / f"weight{weight:g}"
        enh_args = self.experiment.tuning.enh_args
        return Job(
            kind="tuning",
            arm=arm.name,
            directory=directory,
            model_dir=None,
            test_dir=None,
            evaluation_inputs={},
            **self._student(arm, TUNING_SEED, weight, directory, enh_args),
        )

    def run_job(self, arm: Arm, seed: int, weight: float | None) -> Job:
        """Train, enhance the test set, score."""
        directory = self.expdir / arm.name / f"seed{seed}"
        return Job(
            kind="run",
            arm=arm.name,
            directory=directory,
            model_dir=directory,
            keep_audio=self.keep_audio,
            **self._evaluation,
            **self._student(arm, seed, weight, directory, self.experiment.enh_args),
        )

    def default_weight(self, arm: Arm) -> float | None:
        """Weight of the distillation loss in the arm's YAML, 1 where it names none."""
        if arm.distill_config is None:
            return None
        return float(read_config(arm.distill_config).get("distill_weight", 1.0))

    def _student(
        self, arm: Arm, seed: int, weight: float | None, directory: Path, enh_args: str
    ) -> dict:
        """Those fields of a job that tell how a student is trained."""
        config = arm.student_config or self.experiment.student_config
        options = " ".join(filter(None, (enh_args, arm.enh_args, f"--seed {seed}")))
        distillation: tuple[str, ...] = ()
        inputs = {}
        if arm.distill_config:
            options += f" --distill_weight {weight:g}"
            distillation = ("--distill_config", str(arm.distill_config))
            distillation += ("--teacher_exp", str(self.teacher_exp))
            inputs = self._teacher_files | {"distill_config": read_config(arm.distill_config)}
        return {
            "seed": seed,
            "weight": weight,
            "training": self._training(config, directory, options) + distillation,
            "training_inputs": self._training_inputs(config, options) | inputs,
        }

    def _training(self, config: Path, exp_dir: Path, enh_args: str) -> tuple[str, ...]:
        return (
            ("--config", str(config), "--exp_dir", str(exp_dir), f"--enh_args={enh_args}")
            + ("--train_dir", str(self.data_dir / "train"))
            + ("--valid_dir", str(self.data_dir / "valid"))
            + ("--stats_dir", str(self.stats_dir), "--inference_model", MODEL)
        )

    def _training_inputs(self, config: Path, enh_args: str) -> dict:
        return {"config": read_config(config), "enh_args": enh_args, **self._training_data}

    @cached_property
    def _training_data(self) -> dict:
        return {
            f"{split} data": _digest_of_data(self.data_dir / split) for split in ("train", "valid")
        }

    @cached_property
    def _evaluation(self) -> dict:
        test_dir = self.data_dir / TEST_SET
        inputs = {"test data": _digest_of_data(test_dir), "metrics": self.experiment.metrics}
        return {"test_dir": test_dir, "evaluation_inputs": inputs}

    @property
    def _teacher_files(self) -> dict:
        return {
            f"teacher's {name}": _digest(self.teacher_exp / name) for name in ("config.yaml", MODEL)
        }


def _digest_of_data(directory: Path) -> str:
    """Changes with the utterances, and with how ``metadata.csv`` says they were mixed."""
    files = [directory / name for name in DATA_FILES]
    if not files[0].is_file():
        raise FileNotFoundError(f"{files[0]} is not there: run the recipe's stages 1 to 5 first")
    return _digest(*(file for file in files if file.exists()))


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
