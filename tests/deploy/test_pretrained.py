"""What the package brings along: a model that is used where none is named, and recordings."""

from __future__ import annotations

import sys

import pytest

from espnet2_tfckd.data.audio import read_audio
from espnet2_tfckd.deploy import command
from espnet2_tfckd.deploy.pretrained import DEFAULT_MODEL, DEFAULT_PACK, FOLDER, write_samples
from espnet2_tfckd.scoring.metrics import si_sdr
from tests.deploy.test_imports import NETWORKS, imported


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", *map(str, arguments)])
    command.main()


def test_the_first_minute(tmp_path, monkeypatch, capsys):
    """The commands of the README, in a folder where there is nothing."""
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "samples")
    assert "6 noisy recordings: samples/noisy\n" in capsys.readouterr().out
    run(monkeypatch, "enhance", "samples/noisy", "-o", "enhanced")
    assert "enhanced 6 file(s): enhanced" in capsys.readouterr().out
    gains = {}
    for path in sorted((tmp_path / "enhanced").iterdir()):
        estimate, noisy, reference = (
            read_audio(tmp_path / folder / path.name)[0][:, 0].astype(float)
            for folder in ("enhanced", "samples/noisy", "samples/reference")
        )
        assert len(estimate) == len(reference) > 30000
        gains[path.stem] = si_sdr(reference, estimate, 16000) - si_sdr(reference, noisy, 16000)
    assert len(gains) == 6 and min(gains.values()) > 0, gains


def test_it_takes_neither_torch_nor_espnet(tmp_path):
    noisy = write_samples(tmp_path)[0]
    said, modules = imported("enhance", noisy, "-o", tmp_path / "out.wav", "--streaming")
    assert "enhanced 1 file(s)" in said and modules.isdisjoint(NETWORKS)


def test_the_model_says_what_it_is(monkeypatch, capsys):
    run(monkeypatch, "info")
    said = capsys.readouterr().out
    assert "ONNX (offline, streaming)" in said and "38,286" in said and "32 ms" in said


def test_the_pack_holds_the_same_network(tmp_path, monkeypatch, capsys):
    noisy = write_samples(tmp_path)[0]
    run(monkeypatch, "enhance", noisy, "-o", tmp_path / "onnx.wav")
    run(monkeypatch, "enhance", noisy, "-o", tmp_path / "torch.wav", "--model", DEFAULT_PACK)
    ours, packs = (read_audio(tmp_path / f"{name}.wav")[0] for name in ("onnx", "torch"))
    assert abs(ours - packs).max() < 2e-4  # 16 bits have steps of 3e-5


def test_samples_replace_nobodys_files(tmp_path):
    written = write_samples(tmp_path)
    assert write_samples(tmp_path) == written  # once more changes nothing
    written[0].write_bytes(b"mine")
    with pytest.raises(ValueError, match=f"{written[0].name} exists and is not a sample: name"):
        write_samples(tmp_path)
    assert written[0].read_bytes() == b"mine"


def test_it_stays_small():
    sizes = {path: path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()}
    model = sum(n for path, n in sizes.items() if DEFAULT_MODEL in path.parents)
    assert model + DEFAULT_PACK.stat().st_size < 1_000_000 and sum(sizes.values()) < 2_000_000
