"""Published models: laid out as an experiment from a zip file or the hub, and kept up to date."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys

import pytest
import torch
import yaml

from espnet2_tfckd.deploy import command, enhancer
from espnet2_tfckd.models import hub, published
from espnet2_tfckd.models.published import SOURCE, fetch_model
from espnet2_tfckd.stages.pack import pack_model
from tests.deploy.hub_stub import running_hub
from tests.models.building import CHECKPOINT as PACKED_CHECKPOINT
from tests.models.building import CONFIG, tree, write_pack

CHECKPOINT = "valid.loss.best.pth"
NEXT = "1" * 40


@pytest.fixture
def own_exp(causal_exp, tmp_path):
    """An experiment directory that a test may change."""
    return shutil.copytree(causal_exp, tmp_path / "own" / "enh_causal")


@pytest.fixture
def packed(own_exp, tmp_path):
    return pack_model(own_exp, CHECKPOINT, tmp_path / "published.zip")


def other_weights(contents, summand=1):
    """Contents of a pack with other weights of the same shapes."""
    weights = torch.load(io.BytesIO(contents[PACKED_CHECKPOINT]), weights_only=True)
    stream = io.BytesIO()
    torch.save({key: x + summand for key, x in weights.items()}, stream)
    return {**contents, PACKED_CHECKPOINT: stream.getvalue()}


def test_a_packed_model_becomes_an_experiment(packed, own_exp, tmp_path):
    exp_dir = fetch_model(str(packed), tmp_path / "enh_published", "mine.pth")
    assert (exp_dir / "mine.pth").read_bytes() == (own_exp / CHECKPOINT).read_bytes()
    assert (exp_dir / "config.yaml").read_bytes() == (own_exp / "config.yaml").read_bytes()


def test_another_experiment_is_copied_once_and_again_when_it_has_changed(own_exp, tmp_path):
    exp_dir = tmp_path / "enh_given"

    def fetch():
        fetch_model(str(own_exp), exp_dir, CHECKPOINT, is_experiment=True)
        return (exp_dir / CHECKPOINT).read_bytes(), (exp_dir / CHECKPOINT).stat().st_mtime_ns

    first = fetch()
    assert first[0] == (own_exp / CHECKPOINT).read_bytes()
    assert fetch() == first
    weights = torch.load(own_exp / CHECKPOINT, weights_only=True)
    torch.save({key: x + 1 for key, x in weights.items()}, own_exp / CHECKPOINT)
    assert fetch()[0] == (own_exp / CHECKPOINT).read_bytes() != first[0]
    with pytest.raises(FileNotFoundError, match="other.pth is not there; checkpoints in .*: valid"):
        fetch_model(str(own_exp), tmp_path / "enh_new", "other.pth", is_experiment=True)
    with pytest.raises(FileNotFoundError, match="nowhere/config.yaml is not there"):
        fetch_model("nowhere", tmp_path / "enh_new", CHECKPOINT, is_experiment=True)
    assert not (tmp_path / "enh_new").exists()


def test_it_is_unpacked_once_and_again_when_its_contents_have_changed(
    contents, tmp_path, monkeypatch
):
    first, second = other_weights(contents, 1), other_weights(contents, 2)
    packed = write_pack(tmp_path / "published.zip", first)
    before = packed.stat()
    exp_dir = fetch_model(str(packed), tmp_path / "enh_published", CHECKPOINT)
    unpacked = []
    unpack = published.unpack
    monkeypatch.setattr(published, "unpack", lambda *a: unpacked.append(a) or unpack(*a))
    packed.touch()
    fetch_model(str(packed), exp_dir, CHECKPOINT)
    assert not unpacked
    write_pack(packed, second)
    os.utime(packed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert packed.stat().st_size == before.st_size  # neither size nor time tell
    fetch_model(str(packed), exp_dir, CHECKPOINT)
    assert (exp_dir / CHECKPOINT).read_bytes() == second[PACKED_CHECKPOINT]
    fetch_model(str(packed), exp_dir, "other.pth")
    assert (exp_dir / "other.pth").is_file() and len(unpacked) == 2


def test_a_pack_that_is_refused_leaves_the_earlier_model(packed, own_exp, tmp_path):
    exp_dir = fetch_model(str(packed), tmp_path / "enh_published", CHECKPOINT)
    before = tree(exp_dir)
    packed.write_bytes(packed.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"published\.zip cannot be read as a packed ESPnet model"):
        fetch_model(str(packed), exp_dir, CHECKPOINT)
    assert tree(exp_dir) == before
    with pytest.raises(FileNotFoundError, match=r"none\.zip is not there"):
        fetch_model(str(tmp_path / "none.zip"), exp_dir, CHECKPOINT)


@pytest.mark.parametrize("name", ["config.yaml", CHECKPOINT, "3epoch.pth"])
def test_a_training_is_not_overwritten(name, packed, tmp_path):
    exp_dir = tmp_path / "enh_own"
    exp_dir.mkdir()
    (exp_dir / name).write_text("mine")
    with pytest.raises(ValueError, match=f"enh_own holds a model that was not fetched .{name}"):
        fetch_model(str(packed), exp_dir, CHECKPOINT)
    assert tree(exp_dir) == {name: b"mine"}


@pytest.mark.parametrize("name", ["config.yaml", CHECKPOINT])
def test_a_fetched_model_that_somebody_has_changed_is_not_overwritten(name, packed, tmp_path):
    exp_dir = fetch_model(str(packed), tmp_path / "enh_published", CHECKPOINT)
    (exp_dir / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} is not as it was fetched.*delete"):
        fetch_model(str(packed), exp_dir, CHECKPOINT)
    assert (exp_dir / name).read_text() == "mine"


def test_a_fetch_that_was_interrupted_is_done_again(packed, own_exp, tmp_path, monkeypatch):
    def killed(path, source):
        write(path, source)
        raise KeyboardInterrupt

    write = published.write_record
    monkeypatch.setattr(published, "write_record", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch_model(str(packed), tmp_path / "enh", CHECKPOINT)
    monkeypatch.undo()
    (tmp_path / "enh" / CHECKPOINT).write_text("half of it")
    fetch_model(str(packed), tmp_path / "enh", CHECKPOINT)
    assert (tmp_path / "enh" / CHECKPOINT).read_bytes() == (own_exp / CHECKPOINT).read_bytes()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 1}', '{"files": {}, "options": {}, "written": 3}']
)
def test_a_damaged_record_is_named_with_the_remedy(text, packed, tmp_path):
    exp_dir = fetch_model(str(packed), tmp_path / "enh", CHECKPOINT)
    (exp_dir / SOURCE).write_text(text)
    with pytest.raises(ValueError, match=r"enh/source\.json .*delete .*enh"):
        fetch_model(str(packed), exp_dir, CHECKPOINT)


class FakeHub:
    """The hub's library with the stub's address, in this process."""

    def __init__(self, stub, address, monkeypatch, cache):
        import huggingface_hub

        self.stub, self.calls = stub, []
        api = huggingface_hub.HfApi
        download = huggingface_hub.hf_hub_download
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api(endpoint=self.address))
        monkeypatch.setattr(
            huggingface_hub,
            "hf_hub_download",
            lambda *a, **k: download(*a, **k, endpoint=self.address, cache_dir=cache),
        )
        self.address = address

    def publish(self, contents, revision):
        self.stub.repositories["someone/model"] = dict(contents)
        self.stub.revision = revision


@pytest.fixture
def on_hub(contents, tmp_path, monkeypatch):
    """A model on a hub."""
    with running_hub() as (stub, address):
        fake = FakeHub(stub, address, monkeypatch, tmp_path / "hf")
        fake.publish(contents, "0" * 40)
        yield fake


def fetch(tmp_path):
    return fetch_model("someone/model", tmp_path / "enh_model", CHECKPOINT)


def test_a_model_from_the_hub_becomes_an_experiment(on_hub, contents, tmp_path):
    extra = {"run.sh": b"rm -rf ~", ".gitattributes": b"", "onnx/enhance.py": b"1/0"}
    on_hub.publish({**contents, **extra}, "0" * 40)
    exp_dir = fetch(tmp_path)
    assert (exp_dir / CHECKPOINT).read_bytes() == contents[PACKED_CHECKPOINT]
    assert json.loads((exp_dir / SOURCE).read_text())["options"]["revision"] == "0" * 40
    # nothing else of the repository comes here
    assert set(on_hub.stub.downloads) == {"meta.yaml", CONFIG, PACKED_CHECKPOINT}


def test_it_is_fetched_again_when_the_hub_has_another_revision(on_hub, contents, tmp_path):
    exp_dir = fetch(tmp_path)
    downloaded = list(on_hub.stub.downloads)
    fetch(tmp_path)
    assert on_hub.stub.downloads == downloaded
    newer = other_weights(contents)
    on_hub.publish(newer, NEXT)
    fetch(tmp_path)
    assert (exp_dir / CHECKPOINT).read_bytes() == newer[PACKED_CHECKPOINT]
    assert json.loads((exp_dir / SOURCE).read_text())["options"]["revision"] == NEXT


def test_without_the_hub_the_model_that_is_there_is_taken_with_a_note(
    on_hub, tmp_path, monkeypatch, capsys
):
    exp_dir = fetch(tmp_path)
    before = tree(exp_dir)
    on_hub.address = "http://127.0.0.1:9"
    assert fetch(tmp_path) == exp_dir and tree(exp_dir) == before
    said = capsys.readouterr().err
    assert "note: someone/model could not be fetched" in said
    assert f"taking revision {'0' * 40}, fetched before" in said
    assert len(said.splitlines()) == 1
    with pytest.raises(ConnectionError, match=r"someone/model could not be fetched.*\.zip"):
        fetch_model("someone/model", tmp_path / "enh_other", CHECKPOINT)
    assert not (tmp_path / "enh_other").exists()


def test_the_command_asks_the_hub_each_time(on_hub, contents, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(enhancer, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", "info", "someone/model"])
    command.main()
    assert "separator DPDCRNSeparator" in capsys.readouterr().out
    options = yaml.safe_load(contents[CONFIG])
    on_hub.publish(
        {**contents, CONFIG: yaml.safe_dump({**options, "sample_rate": 48000}).encode()}, NEXT
    )
    command.main()
    assert "48000 Hz" in capsys.readouterr().out


def test_a_model_that_the_hub_does_not_have(on_hub, tmp_path):
    for tag in ("someone/else", "someone/mo del", "some..one/model"):
        with pytest.raises(ConnectionError, match=f"{tag} could not be fetched from the hub"):
            fetch_model(tag, tmp_path / "enh", CHECKPOINT)
    assert not (tmp_path / "enh").exists()


EVIL = "../../../evil.yaml"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"meta.yaml": None}, "has no meta.yaml"),
        ({"meta.yaml": b"files: {}\nyaml_files: {}"}, "not an enhancement model"),
        (
            {
                "meta.yaml": f"files: {{model_file: {EVIL}}}\nyaml_files: {{}}".encode(),
                EVIL: b"a: 1",
            },
            "leads out of its folder",
        ),
        ({"meta.yaml": b"files: {model_file: /etc/passwd}\nyaml_files: {}"}, "not a relative name"),
        ({"meta.yaml": b"files: {model_file: exp/none.pth}\nyaml_files: {}"}, "does not hold"),
        ({CONFIG: b"a: !!python/object/apply:os.system [id]"}, f"{CONFIG} is not valid YAML"),
        ({CONFIG: b""}, f"{CONFIG} is not a configuration"),
        ({PACKED_CHECKPOINT: b"garbage"}, f"{PACKED_CHECKPOINT} cannot be read as a checkpoint"),
    ],
    ids=str,
)
def test_a_repository_goes_through_the_same_gate(changes, words, on_hub, contents, tmp_path):
    files = {**contents, **changes}
    on_hub.publish({name: c for name, c in files.items() if c is not None}, NEXT)
    with pytest.raises(ValueError, match=words) as error:
        fetch(tmp_path)
    assert str(error.value).startswith("someone/model") and "/tmp" not in str(error.value)
    assert not (tmp_path / "enh_model").exists() and not (tmp_path / "evil.yaml").exists()


def test_a_file_of_the_hub_that_is_too_large_is_not_downloaded(on_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="bytes, more than any model"):
        fetch(tmp_path)
    assert PACKED_CHECKPOINT not in on_hub.stub.downloads
