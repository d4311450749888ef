"""Folders of ONNX networks: damaged, contradicting themselves, or somebody else's."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.deploy import command
from espnet2_tfckd.deploy.exported import check_network, read_export
from espnet2_tfckd.stages.export import export_model

CHECKPOINT = "valid.loss.best.pth"


@pytest.fixture
def folder(causal_onnx, tmp_path):
    """An export that a test may spoil."""
    return shutil.copytree(causal_onnx, tmp_path / "onnx")


def fails(monkeypatch, capsys, *arguments):
    """Run the command, which must fail, and return its lines on stderr."""
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        run_command(command.main)
    said = capsys.readouterr().err
    assert end.value.code == 1 and "Traceback" not in said
    return [line for line in said.splitlines() if line.startswith("error: ")]


def rewrite(**changes):
    def change(folder):
        meta = json.loads((folder / "meta.json").read_text()) | changes
        (folder / "meta.json").write_text(json.dumps(meta))

    return change


def rewrite_network(**changes):
    def change(folder):
        meta = json.loads((folder / "meta.json").read_text())
        for model in meta["models"].values():
            model.update(changes)
        (folder / "meta.json").write_text(json.dumps(meta))

    return change


def write_meta(text):
    return lambda folder: (folder / "meta.json").write_text(text)


def write_network(content):
    return lambda folder: (folder / "streaming.onnx").write_bytes(content)


NO_MEMORY = {"states": [], "history": [], "attention": []}
FAULTS = {
    "empty meta": (write_meta(""), "meta.json is not valid JSON"),
    "cut meta": (write_meta('{"sample_rate": 160'), "meta.json is not valid JSON"),
    "meta of {}": (write_meta("{}"), "meta.json: sample_rate is None"),
    "a list": (write_meta("[]"), "holds no description"),
    "text for a number": (rewrite(n_fft="128"), "n_fft is '128'"),
    "no hop": (rewrite(hop_length=0), "hop_length is 0"),
    "true for a number": (rewrite(microphones=True), "microphones is True"),
    "a float": (rewrite(sample_rate=16000.5), "sample_rate is 16000.5"),
    "hop beyond frame": (rewrite(hop_length=129), "hop_length or ref_channel is too large"),
    "another hop": (rewrite(hop_length=32), "hop_length: 32, in the network 64"),
    "another rate": (rewrite(sample_rate=8000), "sample_rate: 8000, in the network 16000"),
    "another frame": (rewrite(n_fft=256), "mixture: [1, 2, 1, 129]"),
    "other microphones": (rewrite(microphones=2), "mixture: [1, 4, 1, 65]"),
    "no networks": (rewrite(models={}), "names no networks"),
    "networks as list": (rewrite(models=["offline"]), "names no networks"),
    "unknown networks": (rewrite(models={"evil": {"file": "a.onnx"}}), "names no networks"),
    "network as text": (rewrite(models={"offline": "offline.onnx"}), "names no ONNX file"),
    "file above": (rewrite_network(file="../offline.onnx"), "is not in the folder"),
    "file elsewhere": (rewrite_network(file="/tmp/offline.onnx"), "is not in the folder"),
    "file with backslash": (rewrite_network(file="..\\offline.onnx"), "is not in the folder"),
    "file of another kind": (rewrite_network(file="enhance.py"), "names no ONNX file"),
    "other states": (rewrite_network(states=[{"name": "a", "shape": [1]}]), "streaming remembers"),
    "states as text": (rewrite_network(states=["a"]), "remembers has no name, shape or input"),
    "history as text": (rewrite_network(history="long"), "remembers has no name, shape or input"),
    "frames of the future": (
        rewrite_network(history=[{"name": "a", "shape": [1], "reads": [{"frames_ago": -1}]}]),
        "remembers has no name, shape or input",
    ),
    "keys of nothing": (
        rewrite_network(attention=[{"name": "a", "input": "b", "axis": 1, "shape": [1, 2, 3]}]),
        "remembers has no name, shape or input",
    ),
    "other inputs": (
        rewrite_network(inputs={}, states=[], history=[], attention=[]),
        "does not fit",
    ),
    "network gone": (lambda f: (f / "streaming.onnx").unlink(), "streaming.onnx is not there"),
    "network empty": (write_network(b""), "streaming.onnx"),
    "network garbage": (write_network(b"garbage"), "streaming.onnx is not an ONNX network"),
    "another network": (
        lambda f: shutil.copy(f / "offline.onnx", f / "streaming.onnx"),
        "does not fit streaming.onnx",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_export_ends_in_one_line(fault, folder, tmp_path, monkeypatch, capsys):
    spoil, words = FAULTS[fault]
    spoil(folder)
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(2000), 16000)
    files = [tmp_path / f"{name}.wav" for name in ("a", "b")]
    for call in (["info", folder], ["enhance", *files, "-o", tmp_path / "out", "--model", folder]):
        (line,) = fails(monkeypatch, capsys, *call)
        assert words in line and str(folder) in line
        assert "export the model again" in line
    assert not (tmp_path / "out").exists()


def test_an_export_without_the_record_in_its_networks_is_read(folder):
    """As networks were exported before it was written."""
    import onnx

    for path in folder.glob("*.onnx"):
        network = onnx.load(str(path))
        del network.metadata_props[:]
        onnx.save(network, str(path))
    meta = read_export(folder)
    for name in meta["models"]:
        check_network(folder, meta, name)


def test_a_network_that_fails_later_is_reported_by_file(folder, tmp_path, monkeypatch, capsys):
    from espnet2_tfckd.deploy.onnx_enhance import ExportedModel

    class Fail(Exception):
        """As onnxruntime's, of no kind that a command line reports."""

    def fail(self, spectrum):
        raise Fail("out of memory")

    monkeypatch.setattr(ExportedModel, "step", fail)
    soundfile.write(tmp_path / "a.wav", np.zeros(2000), 16000)
    call = ["enhance", tmp_path / "a.wav", "-o", tmp_path / "b.wav", "--model", folder]
    lines = fails(monkeypatch, capsys, *call)
    assert "a.wav: the network of" in lines[0] and "out of memory" in lines[0]


@pytest.mark.parametrize("name", ["offline.onnx", "streaming.onnx", "enhance.py", "meta.json"])
def test_files_of_somebody_else_are_not_overwritten(name, causal_exp, tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / name).write_text('{"mine": true}')
    with pytest.raises(ValueError, match=f"onnx holds a file {name} that is of no export"):
        export_model(causal_exp, CHECKPOINT, tmp_path / "onnx")
    assert [p.name for p in (tmp_path / "onnx").iterdir()] == [name]
    assert (tmp_path / "onnx" / name).read_text() == '{"mine": true}'


def test_an_earlier_export_is_replaced_and_other_files_stay(folder, offline_exp):
    (folder / "notes.txt").write_text("mine")
    (folder / "mine.onnx").write_text("mine")
    export_model(offline_exp, CHECKPOINT, folder)
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["enhance.py", "meta.json", "mine.onnx", "notes.txt", "offline.onnx"]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"rtf": "x"}'])
@pytest.mark.parametrize("name", ["profile.json", "../results.json"])
def test_damaged_measurements_are_named(name, text, causal_exp, tmp_path, monkeypatch, capsys):
    exp_dir = shutil.copytree(causal_exp, tmp_path / "exp" / "enh_causal")
    if (name, text) == ("../results.json", "[]"):
        text = '[{"system": "causal"}]'
    (exp_dir / name).write_text(text)
    (line,) = fails(monkeypatch, capsys, "info", exp_dir)
    assert name.removeprefix("../") in line and "delete it" in line
