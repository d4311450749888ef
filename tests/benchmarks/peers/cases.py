"""The models of the benchmark, and a process for each of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from espnet2_tfckd.scoring.workers import THREAD_VARIABLES
from tests.benchmarks.measuring import ROOT

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PEERS_ENVIRONMENT = ROOT / ".venv-peers"
OTHER_DATA = "other data, 48 kHz"
STUDENT_SIZES = {64: 4, 16: 1}  # channels: heads; the paper's and the mini recipe's
_SHOWN_LOG_LINES = 5


@dataclass
class Case:
    """A model to measure.

    Attributes:
        name: In tables.
        factory: ``module:class`` of a :class:`tests.benchmarks.peers.model.Model`.
        arguments: Of the class.
        runs_as: By what it is run, in words.
        trained_on: In words; None for random weights, which are not scored.
        from_wheel: Whether it lives in the environment of the peers.
        export: Options of :mod:`tests.benchmarks.peers.student`, if that has to be run before.
        scores_of: The case, as text, that has the same weights run in a faster way; its scores
            count for this one, which would take 40 minutes over the test set.
    """

    name: str
    factory: str
    arguments: dict = field(default_factory=dict)
    runs_as: str = "C library, frame by frame"
    trained_on: str | None = None
    from_wheel: bool = False
    export: list[str] | None = None
    scores_of: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.runs_as})"


def all_cases(student_exps: list[str], espnet_exps: list[str], folder: Path) -> list[Case]:
    """Every model, in the order of the table.

    Args:
        student_exps: Experiments of trained causal students.
        espnet_exps: Experiments of trained separators of ESPnet.
        folder: Where students are exported to.

    Raises:
        FileNotFoundError: An experiment has no ``config.yaml``.
        ValueError: An experiment holds another separator than those that are compared.
    """
    wheels = [
        Case(name, f"tests.benchmarks.peers.native:{name}", trained_on=OTHER_DATA, from_wheel=True)
        for name in ("DeepFilterNet3", "RNNoise")
    ]
    return [*wheels, *_students(student_exps, folder), *_espnet(espnet_exps)]


def _options(exp_dir: str, *expected: str) -> dict:
    """Configuration of an experiment with one of some separators."""
    config = Path(exp_dir) / "config.yaml"
    if not config.is_file():
        raise FileNotFoundError(f"{config} is not there: name the directory of an experiment")
    options = yaml.safe_load(config.read_text(encoding="utf-8"))
    if options.get("separator") not in expected:
        raise ValueError(
            f"{exp_dir} holds the separator {options.get('separator')}, wanted: "
            f"{', '.join(expected)}"
        )
    return options


def _training_data(options: dict, exp_dir: str) -> str:
    files = options.get("train_data_path_and_name_and_type")
    return str(Path(files[0][0]).parent) if files else exp_dir


def _students(experiments: list[str], folder: Path) -> list[Case]:
    """The trained ones, and untrained ones of the sizes that none of them has."""
    sizes = STUDENT_SIZES.copy()
    exports: dict[str, tuple[list[str], str | None]] = {}
    for exp_dir in experiments:
        options = _options(exp_dir, "dpdcrn")
        channels = options["separator_conf"].get("channels", 64)
        sizes.pop(channels, None)
        name = f"causal student {Path(exp_dir).resolve().name}, {channels} channels"
        exports[name] = ["--exp_dir", exp_dir], _training_data(options, exp_dir)
    for channels, heads in sizes.items():
        options = ["--channels", str(channels), "--heads", str(heads)]
        exports[f"causal student, {channels} channels"] = options, None
    cases = []
    for number, (name, (options, trained_on)) in enumerate(exports.items()):
        target = str(folder / f"student_{number}")
        cases.append(
            Case(
                name,
                "tests.benchmarks.peers.student:ExportedStudent",
                {"folder": target},
                "ONNX, frame by frame",
                trained_on,
                export=["--folder", target, *options],
            )
        )
    return cases


def _espnet(experiments: list[str]) -> list[Case]:
    names = {"dccrn": "DCCRN", "skim": "SkiM", "bsrnn": "BSRNN"}
    trained, trained_on = {}, {}
    for exp_dir in experiments:
        options = _options(exp_dir, *names)
        trained[options["separator"]] = {"exp_dir": exp_dir}
        trained_on[options["separator"]] = _training_data(options, exp_dir)
    cases = []
    for separator, name in names.items():
        arguments = trained.get(separator, {"separator": separator})
        case = (f"ESPnet's {name}", "tests.benchmarks.peers.espnet:ESPnetModel")
        data = trained_on.get(separator)
        whole = Case(*case, arguments, "torch, whole signal", data)
        if separator == "skim":
            streaming = {**arguments, "frame_by_frame": True}
            frames = Case(*case, streaming, "torch, frame by frame", data, scores_of=str(whole))
            cases.append(frames)
        cases.append(whole)
    return cases


def install_peers() -> Path:
    """Make the environment of the peers on first use.

    Returns:
        Its Python.

    Raises:
        RuntimeError: pip or venv failed; says how.
    """
    python, stamp = PEERS_ENVIRONMENT / "bin" / "python", PEERS_ENVIRONMENT / "complete"
    wanted = REQUIREMENTS.read_text()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"Installing the peers into {PEERS_ENVIRONMENT}", flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS)]
    for command in ([sys.executable, "-m", "venv", "--clear", str(PEERS_ENVIRONMENT)], pip):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {_end_of(done.stderr)}")
    stamp.write_text(wanted)
    return python


def _environment() -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), "PYTHONPATH": str(ROOT)}


def _end_of(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-_SHOWN_LOG_LINES:]) or "no message"


class Worker:
    """The process of :mod:`tests.benchmarks.peers.worker` for one model.

    Args:
        case: The model.
        log: File for what the process prints.

    Raises:
        RuntimeError: It cannot be installed, exported or loaded; says why.
    """

    def __init__(self, case: Case, log: Path):
        self._log = log
        python = install_peers() if case.from_wheel else Path(sys.executable)
        if case.export is not None:
            command = [sys.executable, "-m", "tests.benchmarks.peers.student", *case.export]
            done = subprocess.run(command, capture_output=True, text=True, env=_environment())
            if done.returncode:
                raise RuntimeError(f"export failed: {_end_of(done.stderr)}")
        with log.open("w") as stream:
            self._process = subprocess.Popen(
                [
                    python,
                    "-m",
                    "tests.benchmarks.peers.worker",
                    case.factory,
                    json.dumps(case.arguments),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env=_environment(),
            )
        self._answer()

    def ask(self, command: str, **arguments) -> dict:
        """Have a function of the worker run and wait for its result.

        Raises:
            RuntimeError: It failed, or the process ended.
        """
        try:
            print(json.dumps({"command": command, **arguments}), file=self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer tells
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(f"ended with status {status}: {_end_of(self._log.read_text())}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
