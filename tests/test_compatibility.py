"""ESPnet's releases that were tried, others, and an environment without ``ci_sdr``."""

import re
import subprocess
import sys

import pytest

from espnet2_tfckd.compatibility import ESPNETS, untried_espnet
from tests.recipes import ROOT

# a plain process in which distributions and modules look otherwise than they are
PREPARE = """
import importlib.abc, importlib.metadata as metadata, sys
real = metadata.version
def version(name):
    if name == "espnet":
        return {espnet!r}
    if name == "ci_sdr" and {hidden}:
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("ci_sdr", "ci_sdr.pt") and {hidden}:
            # the finders that search the disk do not see it
            sys.meta_path[:] = [f for f in sys.meta_path if f is not self]
            try:
                for finder in sys.meta_path:
                    if "espnet2_tfckd" in type(finder).__module__:
                        if spec := finder.find_spec(name, path, target):
                            return spec
            finally:
                sys.meta_path.insert(0, self)
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
"""


def python(code, espnet=ESPNETS[0], hidden=False):
    prepared = PREPARE.format(espnet=espnet, hidden=hidden) + code
    return subprocess.run([sys.executable, "-c", prepared], capture_output=True, text=True)


def test_the_package_asks_for_the_releases_that_were_tried():
    asked = re.findall(r"espnet==(\d+)", (ROOT / "setup.py").read_text())
    assert tuple(asked) == ESPNETS
    assert untried_espnet() is None


@pytest.mark.parametrize("espnet", ["203001", "202301"])
def test_another_espnet_is_met_with_a_sentence(espnet):
    done = python("import espnet2_tfckd, espnet2; print('goes on')", espnet)
    assert done.stdout == "goes on\n"
    assert f"was not tried with ESPnet {espnet}" in done.stderr
    assert "pip install espnet==" in done.stderr


def test_what_another_espnet_lacks_is_no_traceback():
    code = """
from espnet2_tfckd.cli import run_command
def main():
    from espnet2.tasks import no_longer_there
run_command(main)
"""
    done = python(code, "203001")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: ImportError: cannot import name 'no_longer_there'" in done.stderr
    assert "pip install espnet==" in done.stderr.splitlines()[-1]
    assert "Traceback" in python(code).stderr


def test_without_ci_sdr_all_but_its_criterion_works():
    code = """
import espnet2_tfckd, torch
from espnet2.tasks.enh import criterion_choices, separator_choices
from espnet2_tfckd.scoring.metrics import PROTOCOLS
assert "dpdcrn" in separator_choices.classes
assert [name for name, p in PROTOCOLS.items() if not p.is_installed] == ["CI_SDR"]
signals = torch.randn(2, 1, 4000)
assert criterion_choices.get_class("si_snr")()(*signals).isfinite().all()
try:
    criterion_choices.get_class("ci_sdr")()(*signals)
except RuntimeError as error:
    print(error)
"""
    done = python(code, hidden=True)
    assert done.returncode == 0, done.stderr
    assert "CI-SDR needs the package ci_sdr: pip install 'pip<26'" in done.stdout


def test_with_ci_sdr_it_is_the_real_one():
    done = python("import espnet2_tfckd, ci_sdr; print(ci_sdr.__file__)")
    assert done.stdout.strip().endswith("ci_sdr/__init__.py")
