"""YAML read without trusting it; a model's ``config.yaml``, and the sampling rate it states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import yaml

CHECKPOINT = "valid.loss.best.pth"  # what a training with best_model_criterion leaves
MAX_YAML_BYTES = 10 * 2**20
MAX_YAML_VALUES = 10**6  # with every alias written out
RATES = range(1000, 384_001)  # Hz
ESPNET_RATE = 8000  # sample_rate in every config.yaml whose training named none
STFT_RATE = 16000  # default_fs of ESPnet's STFT
_NEEDED = {
    "encoder": str,
    "encoder_conf": dict,
    "separator": str,
    "separator_conf": dict,
    "decoder": str,
    "decoder_conf": dict,
    "model_conf": dict,
}


@dataclass(frozen=True)
class Rate:
    """Sampling rate of a model.

    Attributes:
        hz: The rate in Hz.
        stated: Whether the configuration states it; otherwise it is an assumption.
    """

    hz: int
    stated: bool

    def __str__(self) -> str:
        return f"{self.hz} Hz" + ("" if self.stated else " (assumed: config.yaml does not say)")


def read_yaml(path: str | Path) -> dict:
    """Read a YAML file of options with their values.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: As :func:`parse_yaml`, or if the file holds anything else than options.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: correct its name")
    contents = parse_yaml(path.read_bytes(), str(path))
    if not isinstance(contents, dict):
        raise ValueError(f"{path} holds no options: write lines as in 'max_epoch: 10'")
    return contents


def parse_yaml(text: bytes, source: str):
    """Parse YAML of unknown origin: only plain values, and only as many as fit into memory.

    Args:
        text: The file's contents.
        source: What the file is called in messages.

    Raises:
        ValueError: If it is not valid YAML, gives a name twice, holds tags other than those of
            plain values, or is too large; an alias counts as all that it stands for.

    Examples:
        >>> parse_yaml(b"a: [1, 2]", "a.yaml")
        {'a': [1, 2]}
        >>> parse_yaml(b"a: !!python/name:os.system", "a.yaml")
        Traceback (most recent call last):
        ...
        ValueError: a.yaml is not valid YAML (could not determine a constructor for the tag ...
    """
    if len(text) > MAX_YAML_BYTES:
        raise ValueError(
            f"{source} has {len(text)} bytes, more than any configuration needs: replace it"
        )
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MAX_YAML_VALUES:
            raise yaml.YAMLError("its aliases stand for too many values")
        return loader.construct_document(node)
    except Exception as error:  # PyYAML raises many kinds for what is damaged or nested too deeply
        if isinstance(error, yaml.MarkedYAMLError) and error.problem:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            reason = error.problem + line
        else:
            reason = str(error) or type(error).__name__
        raise ValueError(
            f"{source} is not valid YAML ({shorten(reason, 200)}): correct or replace it"
        ) from error


def _count(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """Number of values in a node with its aliases written out; repeated names are refused."""
    if id(node) in sizes:
        if sizes[id(node)] is None:
            raise yaml.YAMLError("an alias contains itself")
        return sizes[id(node)]
    sizes[id(node)] = None
    if isinstance(node, yaml.MappingNode):
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, count in names.items() if count > 1]:
            raise yaml.YAMLError(
                f"{twice[0]!r} is given twice, line {node.start_mark.line + 1} and on"
            )
        size = 1 + sum(_count(part, sizes) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        size = 1 + sum(_count(part, sizes) for part in node.value)
    else:
        size = 1
    sizes[id(node)] = size
    return size


def read_configuration(path: str | Path) -> dict:
    """Read the ``config.yaml`` of an ESPnet enhancement model.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it is not valid YAML, or not a configuration of an enhancement model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"configuration {path} is not there: train that model first")
    return check_configuration(parse_yaml(path.read_bytes(), str(path)), str(path))


def check_configuration(options: object, source: str) -> dict:
    """Check that options describe an enhancement model and have the types that ESPnet expects.

    Args:
        options: Contents of a ``config.yaml``.
        source: What the file is called in messages.

    Returns:
        ``options``.

    Raises:
        ValueError: If options are missing or of the wrong type; the message names the first.
    """
    remedy = "restore it, or fetch or train the model again"
    if not isinstance(options, dict):
        raise ValueError(
            f"{source} is not a configuration of an ESPnet enhancement model (it is "
            f"{'empty' if options is None else type(options).__name__}): {remedy}"
        )
    if missing := [name for name in (*_NEEDED, "init") if name not in options]:
        raise ValueError(
            f"{source} is not a configuration of an ESPnet enhancement model (it lacks "
            f"{', '.join(missing)}): {remedy}"
        )
    for name, kind in _NEEDED.items():
        if not isinstance(options[name], kind):
            raise ValueError(
                f"{source}: {name} must be {'a name' if kind is str else 'options'}, not "
                f"{shorten(repr(options[name]), 60)}: {remedy}"
            )
    strange = [name for name in options if not isinstance(name, str)]
    for name in (name for name, kind in _NEEDED.items() if kind is dict):
        strange += [key for key in options[name] if not isinstance(key, str)]
    if strange:
        raise ValueError(f"{source}: {strange[0]!r} is not the name of an option: {remedy}")
    for name, rate in (
        ("sample_rate", options.get("sample_rate")),
        ("encoder_conf.default_fs", options["encoder_conf"].get("default_fs")),
    ):
        if rate is not None and (type(rate) is not int or rate not in RATES):
            raise ValueError(f"{source}: {name} is {rate!r}, not a sampling rate in Hz: {remedy}")
    return options


def model_rate(options: Mapping) -> Rate:
    """Sampling rate of a model, by its configuration.

    In ESPnet, the caller says at which rate a model works. A ``config.yaml`` has ``sample_rate``,
    which is 8000 if the training named no rate. It may have ``encoder_conf.default_fs``, the rate
    that the lengths of the STFT are meant for. Trainings of this package state both.

    Args:
        options: Contents of a checked ``config.yaml``.

    Examples:
        >>> str(model_rate({"sample_rate": 16000}))
        '16000 Hz'
        >>> str(model_rate({"sample_rate": 8000, "encoder_conf": {"default_fs": 8000}}))
        '8000 Hz'
        >>> str(model_rate({"sample_rate": 8000}))
        '8000 Hz (assumed: config.yaml does not say)'
        >>> str(model_rate({}))
        '16000 Hz (assumed: config.yaml does not say)'
    """
    rate = options.get("sample_rate")
    of_stft = (options.get("encoder_conf") or {}).get("default_fs")
    if rate not in (None, ESPNET_RATE):
        return Rate(rate, True)
    if of_stft is not None:
        return Rate(of_stft, True)
    return Rate(rate or STFT_RATE, False)


def rate_arguments(hz: int, encoder: str, decoder: str) -> list[str]:
    """ESPnet's options that state a training's sampling rate, see :func:`model_rate`.

    Args:
        hz: Rate of the data.
        encoder, decoder: Kinds of encoder and decoder; only STFTs have lengths that depend on a
            rate.
    """
    arguments = ["--sample_rate", str(hz)]
    for option, kind in (("encoder", encoder), ("decoder", decoder)):
        if kind == "stft":
            arguments += [f"--{option}_conf", f"default_fs={hz}"]
    return arguments


def check_rate(options: Mapping, hz: int, model: str) -> None:
    """Refuse data whose rate differs from the one that a model states.

    Args:
        options: The model's configuration.
        hz: Rate of the data.
        model: What the model is called in messages.

    Raises:
        ValueError: If the rates differ.
    """
    rate = model_rate(options)
    if rate.stated and rate.hz != hz:
        raise ValueError(
            f"{model} works at {rate.hz} Hz and the data is at {hz} Hz: use "
            f"--fs {rate.hz / 1000:g}k"
        )
