"""The command lines: errors of the system, and systems other than Linux."""

import errno
import os
import subprocess
import sys

import pytest

from espnet2_tfckd import cli
from espnet2_tfckd.cli import run_command
from espnet2_tfckd.processes import cpu_cores

# builds every command line without what only Linux has
WITHOUT_LINUX = """
import contextlib, importlib, io, os, pkgutil, sys
sys.argv = ["command", "--help"]
for name in ("sched_getaffinity", "sched_setaffinity", "posix_fadvise", "memfd_create"):
    os.__dict__.pop(name, None)
import espnet2_tfckd.corpora, espnet2_tfckd.deploy, espnet2_tfckd.stages
for package in (espnet2_tfckd.corpora, espnet2_tfckd.deploy, espnet2_tfckd.stages):
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        module = importlib.import_module(found.name)
        if hasattr(module, "main"):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                module.main()
            print(found.name)
"""


def test_every_command_line_is_there_without_linux():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LINUX], capture_output=True, text=True, check=True
    )
    names = [line.removeprefix("espnet2_tfckd.") for line in done.stdout.splitlines()]
    assert {"deploy.command", "corpora.custom", "stages.experiment", "stages.score"} <= {*names}


def test_cores_are_those_allowed_else_all_there_are(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    assert cpu_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cpu_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_cores() == 1


@pytest.mark.parametrize(
    ("has_shared_memory", "file", "words"),
    [
        (False, None, "none/shm is missing or not writable: as root, mount it"),
        (True, None, "set TFCKD_TRACEBACK=1"),
        (False, "recordings/a.wav", "denied: 'recordings/a.wav'\n"),
    ],
)
def test_an_error_of_the_system_says_more_where_it_names_no_file(
    has_shared_memory, file, words, tmp_path, monkeypatch, capsys
):
    def fail():
        raise PermissionError(errno.EACCES, "Permission denied", file)

    monkeypatch.setattr(sys, "platform", "linux")
    shared_memory = tmp_path if has_shared_memory else tmp_path / "none" / "shm"
    monkeypatch.setattr(cli, "SHARED_MEMORY", shared_memory)
    with pytest.raises(SystemExit):
        run_command(fail)
    said = capsys.readouterr().err
    assert said.startswith("error: [Errno 13] Permission denied") and words in said
