"""Packing: the zip loads in ESPnet wherever it is unpacked, and missing files are refused."""

import functools
import zipfile

import numpy as np
import pytest

from espnet2_tfckd.inference import load_separate_speech
from espnet2_tfckd.stages.pack import pack_model

CHECKPOINT = "valid.loss.best.pth"


@pytest.fixture
def from_pretrained(tmp_path, monkeypatch):
    """ESPnet's own loader, unpacking below the test's directory."""
    import espnet_model_zoo.downloader as zoo
    from espnet2.bin.enh_inference import SeparateSpeech

    downloader = functools.partial(zoo.ModelDownloader, cachedir=tmp_path / "cache")
    monkeypatch.setattr(zoo, "ModelDownloader", downloader)
    return SeparateSpeech.from_pretrained


@pytest.mark.filterwarnings("ignore:Expanding a local model")
def test_zip_loads_in_espnet_and_enhances_alike(tiny_model, tmp_path, from_pretrained, monkeypatch):
    outfile = pack_model(tiny_model, CHECKPOINT, tmp_path / "packed" / "tiny.zip")
    original = load_separate_speech(tiny_model, CHECKPOINT)
    tiny_model.rename(tmp_path / "gone")  # nothing but the zip may be used
    monkeypatch.chdir(tmp_path)
    mixture = np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32)
    packed = from_pretrained(str(outfile))
    np.testing.assert_array_equal(packed(mixture, fs=16000)[0], original(mixture, fs=16000)[0])


def test_results_and_training_curves_are_included(tiny_model, tmp_path):
    (tiny_model / "images").mkdir()
    (tiny_model / "images" / "loss.png").write_bytes(b"curve")
    (tiny_model.parent / "RESULTS.md").write_text("# RESULTS")
    outfile = pack_model(tiny_model, CHECKPOINT, tmp_path / "tiny.zip")
    assert sorted(zipfile.ZipFile(outfile).namelist()) == [
        "exp/RESULTS.md",
        "exp/enh_tiny/config.yaml",
        "exp/enh_tiny/images/loss.png",
        f"exp/enh_tiny/{CHECKPOINT}",
        "meta.yaml",
    ]


def test_linked_checkpoint_is_packed_as_a_file_under_its_name(tiny_model, tmp_path):
    (tiny_model / CHECKPOINT).rename(tiny_model / "7epoch.pth")
    (tiny_model / CHECKPOINT).symlink_to("7epoch.pth")
    packed = zipfile.ZipFile(pack_model(tiny_model, CHECKPOINT, tmp_path / "tiny.zip"))
    assert packed.read(f"exp/enh_tiny/{CHECKPOINT}") == (tiny_model / "7epoch.pth").read_bytes()


def test_missing_files_are_refused_by_name_and_an_earlier_zip_survives(tiny_model, tmp_path):
    outfile = tmp_path / "tiny.zip"
    outfile.write_bytes(b"earlier")
    with pytest.raises(FileNotFoundError, match=r"no\.pth.*valid\.loss\.best\.pth"):
        pack_model(tiny_model, "no.pth", outfile)
    with pytest.raises(FileNotFoundError, match=r"MINE\.md is not there"):
        pack_model(tiny_model, CHECKPOINT, outfile, tmp_path / "MINE.md")
    (tiny_model / "config.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.yaml is not there"):
        pack_model(tiny_model, CHECKPOINT, outfile)
    assert outfile.read_bytes() == b"earlier"


def test_only_zip_files_are_written(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.zip"):
        pack_model(tiny_model, CHECKPOINT, tmp_path / "tiny.rar")
