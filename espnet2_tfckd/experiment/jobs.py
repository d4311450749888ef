"""The jobs of an experiment: what each runs, what it depends on, and what it writes.

A job works in its own directory. When it is finished, it writes ``run.json`` there: its result, and
a fingerprint of all its inputs.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from espnet2_tfckd.cli import read_json, write_json
from espnet2_tfckd.data.freshness import changes
from espnet2_tfckd.models.configuration import CHECKPOINT
from espnet2_tfckd.scoring.journal import JOURNAL, read_journal
from espnet2_tfckd.scoring.tables import mean_and_ci95
from espnet2_tfckd.training.log import logged_epochs

TEST_SET = "test"


@dataclass(frozen=True)
class Command:
    """One process of a job: a module of :mod:`espnet2_tfckd.stages` and its arguments."""

    stage: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """The resources that a process and its children used, as the system counts them.

    Attributes:
        cpu_seconds: Processor time, in user and system mode; None if it ran on another machine.
        wall_seconds: Time from start to end.
        peak_mb: Peak memory of the largest process, in MiB; None if it ran on another machine. On
            Linux a process inherits the peak of the process that starts it, which is why the runner
            does not import torch.
    """

    cpu_seconds: float | None
    wall_seconds: float
    peak_mb: float | None


@dataclass(frozen=True)
class Job:
    """One training, one evaluation, or both.

    Attributes:
        kind: ``teacher`` (train it), ``reference`` (score noisy or teacher), ``tuning`` or ``run``.
        arm: Name of the arm, of ``noisy`` or ``teacher``.
        directory: Directory to write.
        training: Arguments of the training stage; empty if there is nothing to train.
        training_inputs: What the trained model is made of, see
            :func:`espnet2_tfckd.data.freshness.made_of`.
        model_dir: Directory of the model to evaluate; None for the mixture itself.
        test_dir: Data directory to evaluate on; None if nothing is evaluated.
        evaluation_inputs: What the scores are made of besides the model.
        seed: Seed of the training.
        weight: Weight of the distillation loss; None without distillation.
        keep_audio: Whether enhanced audio is kept after scoring.
    """

    kind: str
    arm: str
    directory: Path
    training: tuple[str, ...]
    training_inputs: dict
    model_dir: Path | None
    test_dir: Path | None
    evaluation_inputs: dict
    seed: int | None = None
    weight: float | None = None
    keep_audio: bool = False

    @property
    def name(self) -> str:
        """Its name in messages."""
        weight = "" if self.weight is None else f"weight {self.weight:g}"
        if self.kind == "tuning":
            return f"{self.arm}, tuning, {weight}"
        if self.kind == "run":
            return f"{self.arm}, seed {self.seed}" + (f" ({weight})" if weight else "")
        return {"teacher": "training of the teacher"}.get(self.kind, f"scores of {self.arm}")

    @property
    def log(self) -> Path:
        """Output of all its processes; ESPnet's own goes to ``train.log`` beside it."""
        return self.directory / "job.log"

    @property
    def inputs(self) -> dict:
        """Everything that the result depends on, in the form that JSON returns."""
        inputs = {"training": self.training_inputs, "evaluation": self.evaluation_inputs}
        return json.loads(json.dumps(inputs))

    @property
    def fingerprint(self) -> str:
        """A digest of the inputs that does not depend on machine or directory."""
        return hashlib.sha256(json.dumps(self.inputs, sort_keys=True).encode()).hexdigest()[:16]

    def record(self) -> dict | None:
        """``run.json`` if the job is finished with the present inputs."""
        record = read_json(self.directory / "run.json", default=None)
        return record if record and record["fingerprint"] == self.fingerprint else None

    def finish(self, result: dict, scores: dict[str, dict]) -> dict:
        """Write ``run.json``, which marks the job as finished; return its contents."""
        record = {"fingerprint": self.fingerprint, "result": result, "scores": scores}
        write_json(self.directory / "run.json", record)
        return record

    def changed_inputs(self) -> list[str]:
        """What has changed since an earlier, perhaps unfinished, job in the directory."""
        before = read_json(self.directory / "inputs.json", default=self.inputs)
        return [
            reason
            for part, now in self.inputs.items()
            for reason in changes(before.get(part, {}), now)
        ]

    def run(self) -> Generator[Command, Usage, dict]:
        """Yield the commands in order; receive the resources that each used; return the record.

        An interrupted job goes on. A job whose training had other inputs starts again.
        """
        before = read_json(self.directory / "inputs.json", default=None)
        if before and before["training"] != self.inputs["training"]:
            shutil.rmtree(self.directory)
        write_json(self.directory / "inputs.json", self.inputs)
        result = {"kind": self.kind, "arm": self.arm}
        if self.training:
            result |= {"seed": self.seed, "distill_weight": self.weight}
            result |= yield from self._train()
        scores = (yield from self._evaluate()) if self.test_dir else {}
        if scores:
            result["num_utterances"] = len(scores)
            for column in next(iter(scores.values())):
                values = [row[column] for row in scores.values() if row[column] is not None]
                result[column], _ = mean_and_ci95(values)
        return self.finish(result, scores)

    def _train(self) -> Generator[Command, Usage, dict]:
        trained, log = self.directory / "trained.json", self.directory / "train.log"
        if not trained.exists():
            logged = log.stat().st_size if log.exists() else 0
            usage = yield Command("train", self.training)
            write_json(trained, training_result(log, logged, usage))
        if self.kind != "teacher":
            remove_checkpoints(self.directory)
        return read_json(trained, default={})

    def _evaluate(self) -> Generator[Command, Usage, dict[str, dict]]:
        audio, results = self.directory / f"enhanced_{TEST_SET}", self.directory
        if self.model_dir:
            yield Command(
                "enhance",
                ("--exp_dir", str(self.model_dir), "--inference_model", CHECKPOINT)
                + ("--data_dir", str(self.test_dir), "--output_dir", str(audio), "--nj", "1"),
            )
            estimates = audio / "spk1.scp"
        else:
            estimates, results = self.test_dir / "wav.scp", self.directory / self.arm
        metrics = self.evaluation_inputs["options"]["metrics"]
        yield Command(
            "score",
            ("--data_dir", str(self.test_dir), "--dataset", TEST_SET, "--nj", "1")
            + ("--system", f"{self.arm}={estimates}", "--results", str(self.directory))
            + ("--scoring_protocol", " ".join(metrics)),
        )
        if not self.keep_audio:
            shutil.rmtree(audio, ignore_errors=True)
        records = read_journal(results / f"scoring_{TEST_SET}" / JOURNAL)
        return {utterance: record["scores"] for utterance, record in records.items()}


def training_result(log: Path, start: int, usage: Usage) -> dict:
    """The outcome of a training, from ESPnet's log and the resources that it used.

    Args:
        log: ESPnet's log; may begin with earlier attempts at the same training.
        start: Byte in the log at which the last attempt begins.
        usage: Resources that this attempt used.

    Returns:
        ``num_updates``; ``valid_loss``, the best of all epochs (None if never finite); ``peak_mb``;
        and ``cpu_seconds_per_update``: ESPnet's own mean wall time of an update (data, forward,
        backward, optimizer), which leaves out start-up and validation, times the part of the wall
        time in which the process had a processor, so that other jobs on the machine do not count.
        None if the training was already finished, or ran on another machine.
    """
    text = log.read_bytes()
    epochs = logged_epochs(text.decode(errors="replace"))
    if not epochs:
        raise ValueError(f"{log} has no results of an epoch")
    losses = [row["valid_loss"] for row in epochs.values() if math.isfinite(row["valid_loss"])]
    latest = logged_epochs(text[start:].decode(errors="replace"))
    cost, before = None, epochs.get(min(latest, default=1) - 1, {"updates": 0})["updates"]
    if latest and usage.cpu_seconds is not None:
        seconds, done = 0.0, before
        for row in latest.values():
            seconds += row["train_time"] * (row["updates"] - done)
            done = row["updates"]
        cost = seconds / (done - before) * usage.cpu_seconds / usage.wall_seconds
    return {
        "num_updates": epochs[max(epochs)]["updates"],
        "valid_loss": min(losses, default=None),
        "cpu_seconds_per_update": cost,
        "peak_mb": usage.peak_mb if latest else None,
    }


def remove_checkpoints(exp_dir: Path) -> None:
    """Remove every checkpoint of a finished training except that of the best student."""
    best = exp_dir / CHECKPOINT
    kept = {best, best.resolve()}
    for folder in (exp_dir, exp_dir / "distillation"):
        for path in folder.glob("*.pth"):
            if path not in kept and path.absolute() not in kept:
                path.unlink()
