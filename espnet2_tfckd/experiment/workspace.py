"""The directories of an experiment, and the jobs that work in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.freshness import (
    audio_of,
    content_digest,
    digest_of,
    made_of,
    read_record,
    without_stamps,
    write_record,
)
from espnet2_tfckd.experiment.jobs import TEST_SET, Job
from espnet2_tfckd.experiment.settings import Arm, Experiment
from espnet2_tfckd.models.configuration import CHECKPOINT, read_yaml
from espnet2_tfckd.models.inference import model_made_of
from espnet2_tfckd.training.settings import Training
from espnet2_tfckd.training.statistics import data_digests

TUNING_SEED = 1


@dataclass(frozen=True)
class Workspace:
    """The directories of an experiment.

    Attributes:
        experiment: What to run.
        data_dir: Directory of the data directories ``train``, ``valid`` and ``test``.
        stats_dir: Directory of stage 5.
        expdir: Directory of all the jobs' directories.
        given_teacher: Experiment directory of a trained teacher to use; None to train one.
        keep_audio: Whether enhanced audio is kept after scoring.
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
            model_dir=None,
            test_dir=None,
            evaluation_inputs=made_of(),
            **self._training(config, directory, enh_args),
        )

    def reference_job(self, name: str) -> Job:
        """Score the mixture (``noisy``) or the ``teacher``."""
        is_teacher = name == "teacher"
        return Job(
            kind="reference",
            arm=name,
            directory=self.expdir / name,
            training=(),
            training_inputs=self._teacher if is_teacher else made_of(),
            model_dir=self.teacher_exp if is_teacher else None,
            keep_audio=self.keep_audio,
            **self._evaluation,
        )

    @property
    def _teacher(self) -> dict:
        """The contents of the teacher, whoever trained it."""
        return without_stamps(model_made_of(self.teacher_exp, CHECKPOINT))

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
            evaluation_inputs=made_of(),
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
        """The arm's weight of the distillation loss; else that of its distillation's YAML, or 1."""
        if arm.weight is not None or arm.distill_config is None:
            return arm.weight
        weight = read_yaml(arm.distill_config).get("distill_weight", 1.0)
        if not isinstance(weight, (int, float)) or isinstance(weight, bool) or weight <= 0:
            raise ValueError(
                f"{arm.distill_config}: distill_weight must be a number above 0, not {weight!r}"
            )
        return float(weight)

    def outputs_dir(self, teacher_command: str) -> Path:
        """Where a command's estimates of the training mixtures are."""
        return self.expdir / f"outputs_{digest_of(teacher_command)[:8]}"

    def _student(
        self, arm: Arm, seed: int, weight: float | None, directory: Path, enh_args: str
    ) -> dict:
        """The fields of a job that say how a student is trained."""
        config = arm.student_config or self.experiment.student_config
        options = " ".join(filter(None, (enh_args, arm.enh_args, f"--seed {seed}")))
        if arm.distill_config:
            options += f" --distill_weight {weight:g}"
        training = self._training(
            config, directory, options, arm.distill_config, arm.teacher_command
        )
        return {"seed": seed, "weight": weight, **training}

    def _training(
        self,
        config: Path,
        exp_dir: Path,
        enh_args: str,
        distill_config: Path | None = None,
        teacher_command: str | None = None,
    ) -> dict:
        """The fields of a job that say what is trained, and on what."""
        training = Training(
            config=config,
            exp_dir=exp_dir,
            train_dir=str(self.data_dir / "train"),
            valid_dir=str(self.data_dir / "valid"),
            stats_dir=self.stats_dir,
            inference_model=CHECKPOINT,
            enh_args=enh_args,
            distill_config=distill_config,
            teacher_exp=self.teacher_exp if distill_config and not teacher_command else None,
        )
        made = training.made_of(data=self._data)
        if teacher_command:  # its estimates need not be there yet, nor be the same to the last bit
            made["options"]["teacher_command"] = teacher_command
            scp = self.outputs_dir(teacher_command) / "teacher.scp"
            training = replace(training, teacher_outputs=scp)
        return {"training": tuple(training.arguments()), "training_inputs": without_stamps(made)}

    @cached_property
    def _data(self) -> dict[str, str]:
        directories = (self.data_dir / "train", self.data_dir / "valid")
        return data_digests(*directories, self.stats_dir)

    @cached_property
    def _evaluation(self) -> dict:
        test_dir, record = self.data_dir / TEST_SET, self.expdir / "test_data.json"
        made = made_of(audio_of(read_data_dir(test_dir)), before=read_record(record))
        write_record(record, made)
        inputs = {"test data": content_digest(made), "metrics": self.experiment.metrics}
        return {"test_dir": test_dir, "evaluation_inputs": made_of(options=inputs)}
