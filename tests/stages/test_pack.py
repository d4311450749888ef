"""Packing: the zip loads in ESPnet wherever it is unpacked, and missing files are refused."""

import functools
import zipfile

import numpy as np
import pytest

from espnet2_tfckd.models.inference import load_separate_speech
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
    outfile = pack_model(tiny_model, CHECKPOINT, tmp_path / "tiny.zip")
    earlier = outfile.read_bytes()
    with pytest.raises(FileNotFoundError, match=r"no\.pth.*valid\.loss\.best\.pth"):
        pack_model(tiny_model, "no.pth", outfile)
    with pytest.raises(FileNotFoundError, match=r"MINE\.md is not there"):
        pack_model(tiny_model, CHECKPOINT, outfile, tmp_path / "MINE.md")
    (tiny_model / "config.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.yaml is not there"):
        pack_model(tiny_model, CHECKPOINT, outfile)
    assert outfile.read_bytes() == earlier


def _other_sizes(path):
    import torch

    weights = torch.load(path, weights_only=True)
    torch.save({key: x.repeat(2, *[1] * (x.ndim - 1)) for key, x in weights.items()}, path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(b"garbage"), "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "cannot be read"),
        (_other_sizes, "does not fit"),
        (lambda path: path.with_name("config.yaml").write_text(""), "config.yaml is not a config"),
        (lambda path: path.with_name("config.yaml").write_text("a: ["), "not valid YAML"),
        (lambda path: path.with_name("config.yaml").write_text("encoder: stft"), "it lacks"),
        (lambda path: path.with_name("config.yaml").write_bytes(b"\xff\xfe\x00"), "not valid YAML"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_not_packed(spoil, words, tiny_model, tmp_path):
    outfile = pack_model(tiny_model, CHECKPOINT, tmp_path / "tiny.zip")
    earlier = outfile.read_bytes()
    spoil(tiny_model / CHECKPOINT)
    for path in (outfile, tmp_path / "new.zip"):
        with pytest.raises(ValueError, match=words):
            pack_model(tiny_model, CHECKPOINT, path)
    assert outfile.read_bytes() == earlier and not (tmp_path / "new.zip").exists()


def test_a_file_that_is_no_packed_model_is_not_overwritten(tiny_model, tmp_path):
    (tmp_path / "notes.zip").write_bytes(b"mine")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.png", b"mine")
    (tmp_path / "folder.zip").mkdir()
    for name in ("notes", "photos", "folder"):
        path = tmp_path / f"{name}.zip"
        before = path.read_bytes() if path.is_file() else None
        fault = rf"{name}\.zip is (there and is not a packed|a folder)"
        with pytest.raises(ValueError, match=fault):
            pack_model(tiny_model, CHECKPOINT, path)
        assert before is None or path.read_bytes() == before


def test_only_zip_files_are_written(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.zip"):
        pack_model(tiny_model, CHECKPOINT, tmp_path / "tiny.rar")
