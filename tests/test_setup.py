"""local/setup.sh: which Python it takes, what it asks for, and what it says when pip fails."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests.recipes import ROOT

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
# a build backend that needs no package: an empty wheel, or lines of a compiler
BACKEND = """
import sys, zipfile
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    return write(folder)
def build_wheel(folder, config_settings=None, metadata_directory=None):
    {build}
    about = "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n{requires}Provides-Extra: dev\\n"
    with zipfile.ZipFile(f"{{folder}}/{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("{name}-1.0.dist-info/METADATA", about)
        wheel.writestr("{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("{name}-1.0.dist-info/RECORD", "")
    return "{name}-1.0-py3-none-any.whl"
build_editable = build_wheel
del prepare_metadata_for_build_wheel
"""
# a Python of some version: answers whether it is among those asked for, and records other calls
ASKED = """#!/bin/sh
if [ "$1" = -c ] && [ $# -eq 3 ]; then
    case ,$3, in *,{minor},*) exit 0 ;; *) exit 1 ;; esac
fi
echo "{name} $*" >>"{record}"
exit 1
"""
FAIL = 'print("metric.c:1: fatal error: math.h: no such file"); sys.exit(1)'


@pytest.fixture
def checkout(tmp_path):
    """A copy of what set-up needs, of a package that requires nothing, in a folder with a blank."""
    top = tmp_path / "check out"
    shutil.copytree(ROOT / "local", top / "local")
    shutil.copy(ROOT / "setup.py", top / "setup.py")
    (top / "pyproject.toml").write_text(PROJECT)
    (top / "backend.py").write_text(backend("espnet2_tfckd"))
    (tmp_path / "wheels").mkdir()
    return top


def backend(name, build="pass", requires=""):
    return BACKEND.format(name=name, build=build, requires=requires)


def set_up(checkout, *options, path="", **environment):
    """Run set-up without a network, with packages from the folder ``wheels``."""
    env = {
        "PATH": path or f"{checkout.parent}:/usr/bin:/bin",
        "PYTHON": sys.executable,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(checkout.parent / "wheels"),
        "PIP_CONFIG_FILE": os.devnull,
        **environment,
    }
    command = [checkout / "local" / "setup.sh", *options]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=checkout.parent)


def write_wheel(folder, name, version):
    about = f"{name}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


def installed(checkout):
    command = [checkout / ".venv" / "bin" / "python", "-m", "pip", "freeze", "--exclude-editable"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_without_a_python_it_says_which_it_takes(checkout):
    done = set_up(checkout, PYTHON="no_such_python")
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr
    assert not (checkout / ".venv").exists()


def test_newer_pythons_come_first(checkout, tmp_path):
    for name, minor in (("python3", 11), ("python3.12", 12), ("python3.13", 14)):
        script = tmp_path / name  # says which it is, and records that it was chosen
        script.write_text(ASKED.format(name=name, minor=minor, record=tmp_path / "chosen"))
        script.chmod(0o755)
    set_up(checkout, PYTHON="")
    chosen = (tmp_path / "chosen").read_text().splitlines()
    assert chosen and all(line.startswith("python3.12 ") for line in chosen)


def test_the_path_of_python_may_have_spaces(checkout, tmp_path):
    script = tmp_path / "jane doe" / "python"
    script.parent.mkdir()
    script.write_text(ASKED.format(name="hers", minor=12, record=tmp_path / "chosen"))
    script.chmod(0o755)
    set_up(checkout, PYTHON=str(script))
    assert (tmp_path / "chosen").read_text().startswith("hers ")


def test_what_compiling_needs_is_asked_for_before_anything_is_installed(checkout, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("awk", "bash", "cat", "cksum", "cp", "df", "dirname", "env", "printf"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = set_up(checkout, path=str(tools))
    assert done.returncode == 1 and "build-essential" in done.stderr
    assert "xcode-select --install" in done.stderr
    (tools / "apt-get").symlink_to("/bin/true")
    done = set_up(checkout, path=str(tools))
    assert "are missing: sudo apt-get install build-essential" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_failed_build_shows_its_package_and_its_last_lines(checkout, tmp_path):
    (checkout / "backend.py").write_text(
        backend("espnet2_tfckd", requires="Requires-Dist: noisy_metric\\n")
    )
    with tarfile.open(tmp_path / "wheels" / "noisy_metric-1.0.tar.gz", "w:gz") as archive:
        about = "Metadata-Version: 2.1\nName: noisy_metric\nVersion: 1.0\n"
        prepare = backend("noisy_metric", FAIL).replace(
            "del prepare_metadata_for_build_wheel", PREPARE
        )
        for name, text in (
            ("PKG-INFO", about),
            ("pyproject.toml", PROJECT),
            ("backend.py", prepare),
        ):
            info = tarfile.TarInfo(f"noisy_metric-1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    done = set_up(checkout)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    (start,) = (n for n, line in enumerate(said) if "noisy_metric could not be compiled" in line)
    assert any("metric.c:1: fatal error: math.h" in line for line in said[start:])
    assert "fix the network" not in done.stderr


PREPARE = """
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    import os
    os.makedirs(f"{folder}/noisy_metric-1.0.dist-info")
    with open(f"{folder}/noisy_metric-1.0.dist-info/METADATA", "w") as file:
        file.write("Metadata-Version: 2.1\\nName: noisy_metric\\nVersion: 1.0\\n")
    return "noisy_metric-1.0.dist-info"
"""


def test_a_package_that_is_not_found_is_a_matter_of_network_or_disk(checkout):
    (checkout / "backend.py").write_text(
        backend("espnet2_tfckd", requires="Requires-Dist: nowhere\\n")
    )
    done = set_up(checkout)
    assert done.returncode == 1
    assert "fix the network or the disk and run this again" in done.stderr
    assert "No matching distribution found for nowhere" in done.stderr


@pytest.mark.parametrize("version", ["tried", "2.11.5"])
def test_torch_and_torchaudio_come_from_the_folder_that_is_named(checkout, tmp_path, version):
    if version == "tried":  # a folder that has what was tried, and more
        lines = (ROOT / "local" / "constraints" / f"{VERSION}.txt").read_text().splitlines()
        (version,) = (line[7:] for line in lines if line.startswith("torch=="))
        write_wheel(tmp_path / "cpu", "torch", "2.11.5+cpu")
    write_wheel(tmp_path / "cpu", "torch", f"{version}+cpu")
    write_wheel(tmp_path / "cpu", "torchaudio", "2.11.0+cpu")
    (checkout / "backend.py").write_text(
        backend("espnet2_tfckd", requires="Requires-Dist: torch\\nRequires-Dist: torchaudio\\n")
    )
    write_wheel(tmp_path / "wheels", "torch", "98.0")
    done = set_up(checkout, "--torch", "./cpu")
    assert {f"torch=={version}+cpu", "torchaudio==2.11.0+cpu"} <= {*installed(checkout)}
    assert "what was installed does not work" in done.stderr  # as nothing else is in it


@pytest.mark.parametrize("value", ["", "no/such/folder"])
def test_a_torch_that_is_not_there_is_refused(checkout, value):
    done = set_up(checkout, "--torch", value)
    assert done.returncode == 1 and "set-up failed: --torch" in done.stderr
    assert "cpu" in done.stderr
    assert not (checkout / ".venv").exists()
