"""An untrained causal model and its pack, for what opens models."""

import zipfile

import pytest

from tests.deploy.conftest import causal_exp, make_experiment  # noqa: F401

CHECKPOINT = "valid.loss.best.pth"


@pytest.fixture(scope="session")
def contents(causal_exp, tmp_path_factory):  # noqa: F811
    """What a good pack holds: bytes by name."""
    from espnet2_tfckd.stages.pack import pack_model

    path = pack_model(causal_exp, CHECKPOINT, tmp_path_factory.mktemp("good") / "good.zip")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def good_pack(contents, tmp_path):
    """A good pack."""
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return tmp_path / "good.zip"


@pytest.fixture
def fails(capsys):
    """Function that runs a command which must fail, and returns its one line of error."""
    from espnet2_tfckd.cli import run_command

    def run(main):
        with pytest.raises(SystemExit) as end:
            run_command(main)
        lines = [line for line in capsys.readouterr().err.splitlines() if line]
        assert end.value.code == 1
        assert lines[-1].startswith("error: ") and "Traceback" not in "".join(lines)
        return lines[-1]

    return run
