"""What the source distribution and the wheel hold, and what they say of themselves."""

import re
import shutil
import subprocess
import sys
from email import message_from_string

import pytest
import yaml

from espnet2_tfckd import __version__
from tests.recipes import ROOT

pytest.importorskip("setuptools")

FOLDERS = ("conf", "egs2", "espnet2_tfckd", "local", "tests")
FILES = "CHANGELOG.md CITATION.cff CONTRIBUTING.md LICENSE MANIFEST.in Makefile README.md".split()
FILES += ["pyproject.toml", "run.sh", "setup.py"]
# what running tests and recipes leaves behind
LEFT_BEHIND = ("data", "downloads", "dump", "exp")
SDIST = "from setuptools import build_meta; build_meta.build_sdist('dist')"


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of what belongs to the package, and the names of its files."""
    top = tmp_path_factory.mktemp("sources")
    caches = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, top / name, ignore=caches)
    for name in LEFT_BEHIND:
        for folder in top.glob(f"egs2/*/*/{name}"):
            shutil.rmtree(folder)
    for name in FILES:
        shutil.copy(ROOT / name, top / name)
    return top, files_in(top)


@pytest.fixture(scope="module")
def sdist(sources):
    """The source distribution, unpacked, built where tests and recipes have been run."""
    top, _ = sources
    left = [f"egs2/mini/enh1/{name}/left" for name in LEFT_BEHIND]
    left += ["tests/__pycache__/left.pyc", "espnet2_tfckd/__pycache__/left.pyc", "bench.json"]
    for name in left:
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).touch()
    subprocess.run([sys.executable, "-c", SDIST], cwd=top, check=True, capture_output=True)
    (archive,) = (top / "dist").iterdir()
    assert archive.name == f"espnet2_tfckd-{__version__}.tar.gz"
    (top / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", top / "unpacked"], check=True)
    (unpacked,) = (top / "unpacked").iterdir()
    return unpacked


def test_the_source_distribution_holds_all_that_tests_and_recipes_need(sources, sdist):
    added = {name for name in files_in(sdist) if name.startswith("espnet2_tfckd.egg-info/")}
    assert files_in(sdist) - added == sources[1] | {"PKG-INFO", "setup.cfg"}
    assert (sdist / "run.sh").stat().st_mode & 0o100


def test_the_wheel_holds_the_package_and_its_data_only(sdist, tmp_path):
    build = [sys.executable, "setup.py", "-q", "build", "--build-base", str(tmp_path / "base")]
    build += ["--build-lib", str(tmp_path / "wheel")]
    subprocess.run(build, cwd=sdist, check=True, capture_output=True)
    package = {f"espnet2_tfckd/{name}" for name in files_in(sdist / "espnet2_tfckd")}
    assert files_in(tmp_path / "wheel") == package
    assert any(name.endswith("report_template/report.html") for name in package)


def test_the_package_page_has_no_dead_links(sdist):
    about = message_from_string((sdist / "PKG-INFO").read_text(encoding="utf-8"))
    page = about.get_payload()
    assert about["Version"] == __version__
    assert about["Description-Content-Type"] == "text/markdown"
    assert about["License-Expression"] or about["License"] == "Apache-2.0"
    assert "# espnet2-tfckd" in page and "](https://arxiv.org/abs/2506.13127)" in page
    assert not re.findall(r"\]\((?!https?://)[^)]*\)", page)


def test_citation_and_changelog_are_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(__version__)}\b", changelog, re.MULTILINE)
