"""Running ESPnet's trainer as one process with a log, for the stages that use it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from espnet2_tfckd.processes import end_child_with_parent

POLL_SECONDS = 0.3


def data_arguments(train_dir: str, valid_dir: str, audio_format: str) -> list[str]:
    """ESPnet's options that name mixture and reference of both data sets.

    Args:
        train_dir: Data directory to train on.
        valid_dir: Data directory to validate on.
        audio_format: As of stage 3.

    Raises:
        FileNotFoundError: If one of the lists is not there.
    """
    kind = "kaldi_ark" if audio_format.endswith(".ark") else "sound"
    arguments = []
    for split, directory in (("train", train_dir), ("valid", valid_dir)):
        for file, name in (("wav.scp", "speech_mix"), ("spk1.scp", "speech_ref1")):
            path = Path(directory) / file
            if not path.is_file():
                raise FileNotFoundError(f"{path} is not there: run stages 1 to 4 first")
            arguments += [f"--{split}_data_path_and_name_and_type", f"{path},{name},{kind}"]
    return arguments


def run_logged(
    command: list[str],
    log: Path,
    on_line: Callable[[str], None],
    launcher: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run a Python command with its output appended to a log.

    The command ends with this process, even if this process is killed, because two trainers must
    never write to one directory.

    Args:
        command: Arguments of the interpreter, such as ``["-m", "module", "--option"]``.
        log: File to append to.
        on_line: Called with each new line of the log, soon after it is written.
        launcher: What starts the interpreter, if it does not start here; such as Slurm's srun.
        variables: More of the environment.

    Raises:
        RuntimeError: If the command fails; the message quotes its last error and names the log.
    """
    environment = {**os.environ, "TFCKD_TRACEBACK": "1", "PYTHONUNBUFFERED": "1"}
    environment |= variables or {}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as stream:
        start = stream.tell()  # the child moves it
        process = subprocess.Popen(
            [*launcher, sys.executable, *command],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            preexec_fn=end_child_with_parent if sys.platform == "linux" else None,
        )
    try:
        for line in _new_lines(process, log, start):
            on_line(line)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode:
        raise RuntimeError(
            f"{_reason(process.returncode, log, start)}\n"
            f"The log is {log}. Once the cause is fixed, the same command goes on from there."
        )


def _new_lines(process: subprocess.Popen, log: Path, start: int) -> Iterator[str]:
    """Lines that a running process adds to a log after byte ``start``."""
    with open(log, encoding="utf-8", errors="replace") as stream:
        stream.seek(start)
        line = ""
        while True:
            ended = process.poll() is not None  # before the last look at the log
            for piece in iter(stream.readline, ""):
                line += piece
                if line.endswith("\n"):
                    yield line.rstrip("\n")
                    line = ""
            if ended:
                return
            time.sleep(POLL_SECONDS)


def _reason(returncode: int, log: Path, start: int) -> str:
    if returncode < 0:
        name = signal.Signals(-returncode).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the training process was ended by {name}{hint}"
    with open(log, encoding="utf-8", errors="replace") as stream:
        stream.seek(start)
        lines = [line for line in stream.read().splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("srun:", "slurmstepd:"))] or lines
    errors = [
        i for i, line in enumerate(lines) if re.match(r"[\w.]*(Error|error)\b|.+: error:", line)
    ]
    return "\n".join(lines[errors[-1] if errors else -1 :]) or f"exit status {returncode}"
