"""The settings of one training: what it is made of, and ESPnet's command for it."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from espnet2_tfckd.data.datadir import read_scp
from espnet2_tfckd.data.entries import file_of
from espnet2_tfckd.data.freshness import made_of
from espnet2_tfckd.distiller import DEFAULT_SCHEME
from espnet2_tfckd.models.configuration import rate_arguments, read_yaml
from espnet2_tfckd.training.process import data_arguments
from espnet2_tfckd.training.statistics import SHAPE_FILES, data_digests

if TYPE_CHECKING:
    from espnet2_tfckd.distiller.abs_distiller import AbsDistiller


#: Beside ESPnet's checkpoint.pth: the state within an epoch.
UNFINISHED = "checkpoint.unfinished.pth"
DEFAULT_BATCH_SIZE = 20  # of ESPnet


@dataclass(frozen=True)
class Training:
    """The settings of one training; fields are named after the options."""

    config: Path
    exp_dir: Path
    train_dir: str
    valid_dir: str
    stats_dir: Path
    inference_model: str
    audio_format: str = "wav"
    ngpu: int = 0
    num_nodes: int = 1
    distill_config: Path | None = None
    teacher_exp: Path | None = None
    teacher_outputs: Path | None = None
    enh_args: str = ""
    fs: int | None = None
    overwrite: bool = False
    slurm: str | None = None

    def arguments(self) -> list[str]:
        """The command line of :mod:`espnet2_tfckd.stages.train` that asks for this training."""
        values = {name: value for name, value in vars(self).items() if name != "overwrite"}
        return [f"--{name}={value}" for name, value in values.items() if value is not None]

    @property
    def ranks(self) -> int:
        """Processes that train together: one for each GPU, or for each node."""
        return max(1, self.ngpu) * self.num_nodes

    @property
    def output_dir(self) -> Path:
        """Directory that ESPnet writes; the plain student is extracted from a distillation's."""
        return self.exp_dir / "distillation" if self.distill_config else self.exp_dir

    @property
    def teacher_files(self) -> tuple[Path, Path] | None:
        """Configuration and checkpoint of the teacher."""
        if self.teacher_exp is None:
            return None
        return self.teacher_exp / "config.yaml", self.teacher_exp / self.inference_model

    def merged_config(self) -> dict:
        """Contents of the YAML, with those of the distillation's YAML added key by key.

        Raises:
            As :func:`read_yaml`.
        """
        return merged_config(self.config, self.distill_config)

    def changes_by_distillation(self) -> list[str]:
        """Options of the student's YAML that the distillation's sets to something else."""
        if self.distill_config is None:
            return []
        student = replace(self, distill_config=None).merged_config()
        return _changed(student, self.merged_config())

    def made_of(self, before: dict | None = None, data: dict[str, str] | None = None) -> dict:
        """Everything that the trained model depends on.

        Args:
            before: See :func:`espnet2_tfckd.data.freshness.made_of`.
            data: Digests of training and validation set, if they are known already.

        Raises:
            FileNotFoundError: If the teacher is not trained, or stage 4 or 5 has not been run.
            ValueError: If the audio is not that of stage 5.
        """
        options = {**self.merged_config(), "enh_args": self.enh_args, "ranks": self.ranks}
        options["fs"] = self.fs
        # saving more often, as a training advises that was cut off too early, makes no other model
        options.pop("save_minutes", None)
        save = r"--save_minutes[ =]\S+"
        options["enh_args"] = re.sub(f"^{save} *| *{save}", "", self.enh_args)
        data = data or data_digests(self.train_dir, self.valid_dir, self.stats_dir)
        code = {}
        if self.distill_config:
            code["revision of the scheme"] = self._scheme().revision
        files = {}
        for path in self.teacher_files or ():
            if not path.is_file():
                raise FileNotFoundError(f"the teacher's {path} is not there: run stage 6 first")
            files[f"teacher's {path.name}"] = path
        for scp in [*self._signals_to_mix(), *filter(None, [self.teacher_outputs])]:
            files |= {f"{scp.name} {key}": file_of(entry) for key, entry in read_scp(scp).items()}
        return made_of(files, options | data, code, before)

    def _scheme(self) -> type[AbsDistiller]:
        """The class of the distillation scheme.

        Raises:
            ValueError: If there is no scheme of that name.
        """
        from espnet2_tfckd.distiller.registry import distillers

        name, schemes = self.espnet_options(distiller=DEFAULT_SCHEME).distiller, distillers()
        if name not in schemes:
            raise ValueError(
                f"{self.distill_config}: there is no distiller {name!r}, only {', '.join(schemes)}"
            )
        return schemes[name]

    def _signals_to_mix(self) -> list[Path]:
        """Lists of noises and room responses that ESPnet's preprocessor mixes in."""
        options = self.espnet_options(noise_scp=None, rir_scp=None)
        lists = []
        for name, value in vars(options).items():
            for path in map(Path, [value] if isinstance(value, str) else value or []):
                if not path.is_file():
                    raise FileNotFoundError(
                        f"{path}, named as {name}, is not there: stage 4 with --remix_snr makes one"
                    )
                lists.append(path)
        return lists

    def espnet_options(self, **defaults: object) -> argparse.Namespace:
        """See :func:`espnet_options`."""
        return espnet_options(self.merged_config(), self.enh_args, **defaults)

    def espnet_command(self, config: Path) -> list[str]:
        """Arguments of the interpreter for running ESPnet's trainer."""
        program = "enh_kd_train" if self.distill_config else "enh_train"
        command = ["-m", f"espnet2_tfckd.bin.{program}", "--config", str(config)]
        command += data_arguments(self.train_dir, self.valid_dir, self.audio_format)
        if self.teacher_outputs:
            data = f"{self.teacher_outputs},teacher_estimate,sound"
            command += ["--train_data_path_and_name_and_type", data]
        for split in ("train", "valid"):
            for name in SHAPE_FILES:
                command += [f"--{split}_shape_file", str(self.stats_dir / split / name)]
        command += ["--resume", "true", "--output_dir", str(self.output_dir)]
        command += ["--ngpu", str(self.ngpu)]
        if self.teacher_files:
            teacher_config, teacher_model = map(str, self.teacher_files)
            command += ["--teacher_config", teacher_config, "--teacher_model_file", teacher_model]
        if self.fs:
            kinds = self.espnet_options(encoder="stft", decoder="stft")
            command += rate_arguments(self.fs, kinds.encoder, kinds.decoder)
        command += shlex.split(self.enh_args)
        return command + (self._arguments_of_ranks() if self.ranks > 1 else [])

    def _arguments_of_ranks(self) -> list[str]:
        """What ESPnet needs to know of its processes; these options win over all others."""
        options = self.espnet_options(
            iterator_type="sequence",
            num_iters_per_epoch=None,
            valid_iterator_type=None,
            valid_batch_size=None,
            batch_size=DEFAULT_BATCH_SIZE,
        )
        arguments = ["--multiprocessing_distributed", "true"]
        if self.num_nodes > 1:
            arguments += ["--dist_launcher", "slurm"]
        if self.ngpu == 0:
            arguments += ["--dist_backend", "gloo"]
        # of chunks, ESPnet counts the utterances that every process visits; else batches of all
        if options.iterator_type == "chunk" and options.num_iters_per_epoch is not None:
            share = -(-int(options.num_iters_per_epoch) // self.ranks)
            arguments += ["--num_iters_per_epoch", str(share)]
        # every process needs an utterance to validate on
        valid_size = int(options.valid_batch_size or options.batch_size)
        if options.valid_iterator_type == "sequence" and valid_size < self.ranks:
            arguments += ["--valid_batch_size", str(self.ranks)]
        return arguments


def merged_config(config: Path, distill_config: Path | None) -> dict:
    """Contents of a YAML, with those of a distillation's YAML added key by key.

    Raises:
        As :func:`read_yaml`.
    """
    merged = read_yaml(config)
    return _merged(merged, read_yaml(distill_config)) if distill_config else merged


def espnet_options(config: dict, enh_args: str, **defaults: object) -> argparse.Namespace:
    """The values that some of ESPnet's options will have.

    Args:
        config: Contents of the YAML.
        enh_args: ESPnet's options that win over these.
        defaults: Names of the options, with ESPnet's defaults.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", default=config.get(name, default))
    return parser.parse_known_args(shlex.split(enh_args))[0]


def check_batch_size(config: Path, distill_config: Path | None, enh_args: str, ranks: int) -> None:
    """Refuse a batch of chunks that does not divide among the processes of a training.

    Other batches need not divide: ESPnet weighs processes by their utterances.

    Args:
        config: YAML of the training.
        distill_config: YAML of the distillation, if it is one.
        enh_args: More of ESPnet's options.
        ranks: Number of processes.

    Raises:
        ValueError: If it does not divide.
    """
    defaults = {"iterator_type": "sequence", "batch_size": DEFAULT_BATCH_SIZE}
    options = espnet_options(merged_config(config, distill_config), enh_args, **defaults)
    size = int(options.batch_size)
    if options.iterator_type == "chunk" and size % ranks:
        raise ValueError(
            f"a batch of {size} utterances does not divide among {ranks} processes (GPUs, or nodes "
            f"without them): set batch_size in {config} to a multiple of {ranks}, or take another "
            "number of them"
        )


def _merged(options: dict, own: dict) -> dict:
    """Options over others; dictionaries that both have are merged by their keys."""
    merged = {**options, **own}
    for key in options.keys() & own.keys():
        if isinstance(options[key], dict) and isinstance(own[key], dict):
            merged[key] = _merged(options[key], own[key])
    return merged


def _changed(before: dict, after: dict, where: str = "") -> list[str]:
    """Those options of ``before`` that are others in ``after``, a line each."""
    lines = []
    for key, value in before.items():
        if isinstance(value, dict) and isinstance(after[key], dict):
            lines += _changed(value, after[key], f"{where}{key}.")
        elif after[key] != value:
            lines.append(f"{where}{key} was {value!r}, is {after[key]!r}")
    return lines
