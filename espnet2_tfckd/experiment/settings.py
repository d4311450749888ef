"""The settings of an experiment, read from its YAML and checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from espnet2_tfckd.models.configuration import read_yaml
from espnet2_tfckd.scoring.metrics import PROTOCOLS

ARM_FILES = ("distill_config", "student_config")
RESERVED_ARMS = ("noisy", "teacher", "tuning")  # directories beside those of the arms


@dataclass(frozen=True)
class Arm:
    """One way to train the student; fields are named after the keys of the YAML.

    Attributes:
        name: Key of the arm.
        seeds: Seeds to train it with.
        distill_config: YAML of the distillation; None for an arm without distillation.
        tune: Whether the weight of the distillation loss is searched for on the validation set.
        weight_of: Arm whose tuned weight is used.
        weight: Weight of the distillation loss; None for that of ``distill_config``.
        enh_args: ESPnet's options for this arm alone; they override those of the experiment.
        student_config: Options of another network, used instead of the experiment's student.
        teacher_command: A teacher that is a command with ``{input}`` and ``{output}``, instead of
            that of the experiment; see :mod:`espnet2_tfckd.stages.teacher_outputs`.
    """

    name: str
    seeds: tuple[int, ...]
    distill_config: Path | None = None
    tune: bool = False
    weight_of: str | None = None
    weight: float | None = None
    enh_args: str = ""
    student_config: Path | None = None
    teacher_command: str | None = None


@dataclass(frozen=True)
class Tuning:
    """The search for weights: a geometric grid that grows at the end where the best weight lies."""

    factor: float
    most: int
    enh_args: str


@dataclass(frozen=True)
class Experiment:
    """A whole experiment; fields are named after the keys of the YAML.

    Attributes:
        student_config: ESPnet's options of the student.
        teacher_config: ESPnet's options of the teacher.
        teacher_args: More of ESPnet's options for the teacher.
        enh_args: More of ESPnet's options for the student, the same in every arm.
        metrics: Keys of :data:`espnet2_tfckd.scoring.metrics.PROTOCOLS`.
        baseline: The arm that all are compared with, trained without distillation.
        method: The arm that is compared with all others.
        tuning: How to search for weights.
        arms: All arms by name, in the order of the tables.
    """

    student_config: Path
    teacher_config: Path
    teacher_args: str
    enh_args: str
    metrics: tuple[str, ...]
    baseline: str
    method: str
    tuning: Tuning
    arms: dict[str, Arm]

    @property
    def columns(self) -> list[str]:
        """Names of the scores of one utterance."""
        return [column for name in self.metrics for column in PROTOCOLS[name].columns]


def read_experiment(path: str | Path) -> Experiment:
    """Read the YAML of an experiment.

    One that ``extends`` another takes over what it does not set itself. Its ``enh_args``, and those
    of its ``tuning``, come after those of the other.

    Args:
        path: The YAML; the paths in it are relative to the working directory, a recipe's.

    Raises:
        FileNotFoundError: If the YAML or a file that it names is not there.
        ValueError: If a key is unknown, missing, given twice or of the wrong type, or YAMLs extend
            each other in a circle.
    """
    contents = _contents(Path(path), ())
    try:
        return _experiment(contents)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: {error} is not there: correct its name") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _contents(path: Path, extended_by: tuple[Path, ...]) -> dict:
    """Contents of the YAML of an experiment, with those of the one that it extends."""
    if path.resolve() in extended_by:
        raise ValueError(f"{path}: it extends itself, through others perhaps")
    contents = read_yaml(path)
    if "extends" not in contents:
        return contents
    name = contents.pop("extends")
    if not (isinstance(name, str) and name):
        raise ValueError(f"{path}: extends must be the name of a file beside it, not {name!r}")
    return _extended(_contents(path.parent / name, (*extended_by, path.resolve())), contents)


def _extended(base: dict, own: dict) -> dict:
    """Options of an experiment over those of another, as :func:`read_experiment` says."""
    merged = {**base, **own}
    if isinstance(base.get("tuning"), dict) and isinstance(own.get("tuning"), dict):
        merged["tuning"] = _extended(base["tuning"], own["tuning"])
    if isinstance(base.get("enh_args"), str) and isinstance(own.get("enh_args"), str):
        merged["enh_args"] = f"{base['enh_args']} {own['enh_args']}".strip()
    return merged


def _experiment(contents: object) -> Experiment:
    _check_keys("the experiment", contents, _names(Experiment), _names(Experiment))
    _check_kinds("the experiment", contents, metrics=list, tuning=dict, arms=dict)
    tuning, arms = contents["tuning"], contents["arms"]
    _check_keys("tuning", tuning, _names(Tuning), _names(Tuning))
    _check_kinds("tuning", tuning, factor=(int, float), most=int)
    _check_keys("arms", arms, arms, [contents["baseline"], contents["method"]])
    unknown = [name for name in contents["metrics"] if name not in [*PROTOCOLS]]
    if unknown or not contents["metrics"]:
        raise ValueError(f"metrics: {unknown} is not among {' '.join(PROTOCOLS)}")
    if not (tuning["factor"] > 1 and tuning["most"] >= 3):
        raise ValueError("tuning: factor must be above 1 and most at least 3")
    experiment = Experiment(
        student_config=_file(contents["student_config"]),
        teacher_config=_file(contents["teacher_config"]),
        teacher_args=contents["teacher_args"],
        enh_args=contents["enh_args"],
        metrics=tuple(contents["metrics"]),
        baseline=contents["baseline"],
        method=contents["method"],
        tuning=Tuning(**tuning),
        arms={name: _arm(name, options) for name, options in arms.items()},
    )
    for arm in experiment.arms.values():
        _check_arm(arm, experiment)
    options = [experiment.enh_args, experiment.tuning.enh_args]
    for text in (*options, *(arm.enh_args for arm in experiment.arms.values())):
        if "--distill_weight" in text:
            raise ValueError(
                f"enh_args: {text!r} would not set the weight of the loss, which the plan sets for "
                "every arm: give the arm a weight, or tune: true"
            )
    return experiment


def _arm(name: str, options: object) -> Arm:
    known = [key for key in _names(Arm) if key != "name"]
    _check_keys(f"arm {name}", options, known, ["seeds"])
    options = {key: value for key, value in options.items() if value is not None}
    _check_kinds(f"arm {name}", options, seeds=list, tune=bool, weight=(int, float))
    seeds = options["seeds"]
    if (
        not seeds
        or not all(type(seed) is int and seed >= 0 for seed in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise ValueError(f"arm {name}: seeds must be different whole numbers, as in [1, 2, 3]")
    files = {key: _file(options[key]) for key in ARM_FILES if options.get(key) is not None}
    return Arm(**{**options, **files, "name": name, "seeds": tuple(seeds)})


def _check_arm(arm: Arm, experiment: Experiment) -> None:
    if not (isinstance(arm.name, str) and re.fullmatch(r"\w+", arm.name)) or (
        arm.name in RESERVED_ARMS
    ):
        raise ValueError(
            f"arm {arm.name}: a name has letters, digits and _ only, and is not "
            + ", ".join(RESERVED_ARMS)
        )
    if arm.name == experiment.baseline:
        if arm.distill_config:
            raise ValueError(f"arm {arm.name}: the baseline has no distill_config")
    elif not (arm.distill_config or arm.enh_args or arm.student_config):
        raise ValueError(
            f"arm {arm.name}: there is no distill_config, no enh_args and no student_config, by "
            f"which it would differ from {experiment.baseline}"
        )
    if arm.teacher_command and arm.distill_config is None:
        raise ValueError(f"arm {arm.name}: a teacher is of use only with a distill_config")
    sources = [
        key for key in ("tune", "weight_of", "weight") if getattr(arm, key) not in (None, False)
    ]
    if arm.distill_config is None and sources:
        raise ValueError(f"arm {arm.name}: there is no weight without a distill_config")
    if len(sources) > 1:
        raise ValueError(f"arm {arm.name}: {' and '.join(sources)} exclude each other")
    if arm.weight is not None and not 0 < arm.weight < float("inf"):
        raise ValueError(f"arm {arm.name}: weight must be above 0, but is {arm.weight}")
    source = experiment.arms.get(arm.weight_of) if arm.weight_of else None
    if arm.weight_of and not (source and source.tune):
        raise ValueError(f"arm {arm.name}: weight_of must name an arm with tune: true")
    if source and (arm.teacher_command or source.teacher_command):
        raise ValueError(
            f"arm {arm.name}: weight_of is for arms with the experiment's teacher, not for those "
            "with a teacher_command: give the arm a weight of its own"
        )


def _check_keys(where: str, contents: object, known: Collection, needed: Sequence) -> None:
    if not isinstance(contents, dict):
        raise ValueError(f"{where}: there must be 'key: value' lines")
    if unknown := [str(key) for key in contents if key not in known]:
        raise ValueError(f"{where}: {', '.join(unknown)} is unknown (known: {', '.join(known)})")
    if missing := [str(key) for key in needed if key not in contents]:
        raise ValueError(f"{where}: {', '.join(missing)} is missing")


def _check_kinds(where: str, contents: dict, **kinds: type | tuple[type, ...]) -> None:
    """Check the values' types: those in ``kinds``, and text for all other keys."""
    words = {
        list: "a list",
        dict: "'key: value' lines",
        bool: "true or false",
        int: "a whole number",
    }
    for key, value in contents.items():
        kind = kinds.get(key, str)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = words.get(kind, "text" if kind is str else "a number")
            raise ValueError(f"{where}: {key} must be {wanted}, not {value!r}")


def _names(of_class: type) -> list[str]:
    return [field.name for field in fields(of_class)]


def _file(name: object) -> Path:
    if not (isinstance(name, str) and name):
        raise ValueError(f"a configuration must be the name of a file, not {name!r}")
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(name)
    return path
