"""Schemes of other packages: found by their entry points, refused where they do not fit."""

import subprocess
import sys

import pytest

from espnet2_tfckd.distiller import registry
from espnet2_tfckd.distiller.abs_distiller import AbsDistiller
from espnet2_tfckd.distiller.registry import distillers, register_distiller
from espnet2_tfckd.distiller.response import ResponseDistiller


@pytest.fixture
def own_registry(monkeypatch):
    """Whatever is registered here is forgotten afterwards."""
    monkeypatch.setattr(registry, "_registered", dict(distillers()))


class Other(ResponseDistiller):
    """A scheme of a stranger's."""


def test_a_class_joins_by_its_name(own_registry):
    assert register_distiller("other", revision=3)(Other) is Other
    assert distillers()["other"] is Other and Other.revision == 3
    assert register_distiller("other")(Other) is Other  # once more, as a module read anew does


@pytest.mark.parametrize(
    ("name", "scheme", "words"),
    [
        ("response", Other, "'response' is taken by .*ResponseDistiller: give .*Other another"),
        ("Other", Other, "in lower case, not 'Other'"),
        ("other", object, "not a subclass of AbsDistiller"),
        ("other", lambda: None, "not a subclass of AbsDistiller"),
    ],
)
def test_what_does_not_fit_is_refused(name, scheme, words, own_registry):
    with pytest.raises((TypeError, ValueError), match=words):
        register_distiller(name)(scheme)
    assert issubclass(distillers()["response"], AbsDistiller) and "other" not in distillers()


def install(folder, name, source):
    """A package as pip leaves it: a module, and metadata with its entry point."""
    (folder / f"{name}.py").write_text(source)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\n{name} = {name}\n")


SCHEME = """
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.distiller.response import ResponseDistiller

@register_distiller("mine")
class Mine(ResponseDistiller):
    pass
"""


def test_installed_packages_add_schemes_and_a_broken_one_is_left_out(tmp_path):
    install(tmp_path, "mine", SCHEME)
    install(tmp_path, "broken", "1 / 0")
    code = f"""
import sys
sys.path.append({str(tmp_path)!r})
from espnet2_tfckd.training.task import EnhancementKDTask
print(EnhancementKDTask.get_parser().parse_args(["--distiller", "mine"]).distiller)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["mine"], done.stderr
    assert "broken (broken, of espnet2_tfckd.distillers)" in done.stderr
    assert "is left out, as it cannot be imported: ZeroDiv" in done.stderr
