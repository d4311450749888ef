"""Published models: laid out as an experiment from a zip file or the hub, or refused by name."""

import pytest

from espnet2_tfckd.published import fetch_model
from espnet2_tfckd.stages.pack import pack_model

CHECKPOINT = "valid.loss.best.pth"


@pytest.fixture
def packed(tiny_model, tmp_path):
    return pack_model(tiny_model, CHECKPOINT, tmp_path / "published.zip")


def test_a_packed_model_becomes_an_experiment(packed, tiny_model, tmp_path):
    exp_dir = fetch_model(str(packed), tmp_path / "enh_published", "mine.pth")
    assert (exp_dir / "mine.pth").read_bytes() == (tiny_model / CHECKPOINT).read_bytes()
    assert (exp_dir / "config.yaml").is_file()


def test_it_is_fetched_once_and_again_when_it_has_changed(packed, tiny_model, tmp_path):
    exp_dir = fetch_model(str(packed), tmp_path / "enh_published", CHECKPOINT)
    (exp_dir / CHECKPOINT).write_bytes(b"left alone")
    fetch_model(str(packed), exp_dir, CHECKPOINT)
    assert (exp_dir / CHECKPOINT).read_bytes() == b"left alone"
    (tiny_model.parent / "RESULTS.md").write_text("# RESULTS")
    pack_model(tiny_model, CHECKPOINT, packed)
    fetch_model(str(packed), exp_dir, CHECKPOINT)
    assert (exp_dir / CHECKPOINT).read_bytes() == (tiny_model / CHECKPOINT).read_bytes()


def test_what_is_no_packed_model_is_refused_by_name(packed, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.zip is not there"):
        fetch_model(str(tmp_path / "none.zip"), tmp_path / "fetched", CHECKPOINT)
    packed.write_bytes(packed.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"published\.zip cannot be read as a packed ESPnet model"):
        fetch_model(str(packed), tmp_path / "fetched", CHECKPOINT)
    assert not (tmp_path / "fetched").exists()


def test_a_hub_that_cannot_be_reached_is_named_with_the_remedy(tmp_path, monkeypatch):
    import espnet_model_zoo.downloader as zoo

    def offline(self, name):
        raise OSError("no route to host")

    monkeypatch.setattr(zoo.ModelDownloader, "download_and_unpack", offline)
    with pytest.raises(ConnectionError, match=r"someone/model could not be fetched.*\.zip"):
        fetch_model("someone/model", tmp_path / "fetched", CHECKPOINT)


def test_a_model_from_the_hub_becomes_an_experiment(tiny_model, tmp_path, monkeypatch):
    import espnet_model_zoo.downloader as zoo

    files = {
        "train_config": str(tiny_model / "config.yaml"),
        "model_file": str(tiny_model / CHECKPOINT),
    }
    monkeypatch.setattr(zoo.ModelDownloader, "download_and_unpack", lambda self, name: files)
    exp_dir = fetch_model("someone/model", tmp_path / "fetched", CHECKPOINT)
    assert (exp_dir / CHECKPOINT).read_bytes() == (tiny_model / CHECKPOINT).read_bytes()
