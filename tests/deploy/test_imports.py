"""What the command espnet2-tfckd imports: nothing for its help, no torch for an ONNX folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_tfckd import __version__
from espnet2_tfckd.deploy import command, enhancer

NETWORKS = {"torch", "torchaudio", "espnet", "espnet2", "espnet_model_zoo", "huggingface_hub"}
HEAVY = {"av", "numpy", "onnx", "onnxruntime", "scipy", "soundfile", "soxr", "tqdm", "yaml"}
# ends a call of the command with the names of what it imported
LISTED = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from espnet2_tfckd.deploy.command import main
main()
"""


def imported(*arguments):
    """Run the command, and return what it printed and the top-level modules it imported."""
    done = subprocess.run(
        [sys.executable, "-c", LISTED, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stderr.splitlines()[-1])
    return done.stdout, {name.partition(".")[0] for name in names}


@pytest.fixture
def noisy(tmp_path):
    """Two files in a folder."""
    (tmp_path / "noisy").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.wav", "b.mp3"):
        soundfile.write(tmp_path / "noisy" / name, 0.1 * rng.standard_normal(16000), 16000)
    return tmp_path / "noisy"


@pytest.mark.parametrize("name", [None, "enhance", "demo", "info", "parity", "samples"])
def test_help_imports_nothing_that_takes_long(name):
    said, modules = imported(*filter(None, [name, "--help"]))
    assert said.startswith(f"usage: espnet2-tfckd {name or ''}".rstrip())
    assert "espnet2_tfckd" in modules and modules.isdisjoint(NETWORKS | HEAVY)


def test_the_version_is_the_packages():
    said, modules = imported("--version")
    assert said == f"espnet2-tfckd {__version__}\n" and modules.isdisjoint(NETWORKS | HEAVY)


def test_an_onnx_folder_is_described_and_enhances_without_torch(noisy, causal_onnx, tmp_path):
    said, modules = imported("info", causal_onnx)
    assert "ONNX (offline, streaming)" in said and modules.isdisjoint(NETWORKS)
    said, modules = imported("enhance", noisy, "--model", causal_onnx, "-o", tmp_path / "out")
    assert "enhanced 2 file(s)" in said
    assert "onnxruntime" in modules and modules.isdisjoint(NETWORKS | {"scipy", "onnx"})


def test_no_process_of_several_imports_torch(noisy, causal_onnx, tmp_path):
    """Where an import of torch or ESPnet fails, all is well: none is tried."""
    for name in NETWORKS:
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "__init__.py").write_text("raise ImportError(__name__)\n")
    paths = [str(tmp_path / "broken"), *filter(None, [os.environ.get("PYTHONPATH")])]
    call = ["enhance", noisy, "--model", causal_onnx, "-o", tmp_path / "out", "--nj", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "espnet2_tfckd", *map(str, call)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav"]


@pytest.mark.parametrize("name", ["experiment", "pack.zip", "somebody/model"])
@pytest.mark.parametrize("call", ["info", "enhance", "parity"])
def test_without_torch_espnet_models_are_refused_with_what_to_install(
    call, name, noisy, causal_exp, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(enhancer, "find_spec", lambda name: None)
    model = causal_exp if name == "experiment" else name
    wav = noisy / "a.wav"
    arguments = {
        "info": [model],
        "enhance": [wav, "-o", tmp_path / "out.wav", "--model", model],
        "parity": [model, wav],
    }
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", call, *map(str, arguments[call])])
    with pytest.raises(SystemExit) as end:
        command.main()
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("error: "))
    assert end.value.code == 1
    assert f"error: {model} is an ESPnet model, for which torch and espnet2 must be" in line
    assert "run pip install espnet2_tfckd, or use the model's ONNX export" in line
    assert not Path(tmp_path / "out.wav").exists()
