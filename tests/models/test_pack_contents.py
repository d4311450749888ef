"""What is inside a pack: YAML, configurations and weights of strangers run no code."""

from __future__ import annotations

import io
import os
import pickle
import sys
import zipfile

import pytest
import torch
import yaml

from espnet2_tfckd.deploy import enhancer
from espnet2_tfckd.models import packs
from espnet2_tfckd.models.published import fetch_model
from tests.models.building import CHECKPOINT, CONFIG, compressed, refused, write_pack


class Evil:
    """What runs code when it is unpickled without care."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30)
)
TEXTS = {
    "code": "a: !!python/object/apply:os.system [id]",
    "aliases": BOMB,
    "merges": MERGES,
    "an alias of itself": "a: &a [*a]",
    "nested": "[" * 100_000,
    "no text": "\x00\xff",
    "unclosed": "a: [",
    "huge": "a: " + "x" * (packs.MAX_YAML_BYTES + 1),
    "a large number": "a: " + "9" * 10_000,
}


@pytest.mark.parametrize("member", ["meta.yaml", CONFIG])
@pytest.mark.parametrize("kind", TEXTS)
def test_such_yaml_is_refused(kind, member, contents, tmp_path, fails, monkeypatch):
    text = TEXTS[kind].encode("utf-8", "surrogateescape")
    packed = write_pack(tmp_path / "evil.zip", {**contents, member: text})
    refused(packed, None, tmp_path, fails, monkeypatch, member)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (None, "is empty"),
        ([], "it is list"),
        ({"separator": None}, "separator must be a name"),
        ({"separator": 3}, "separator must be a name"),
        ({"separator_conf": []}, "separator_conf must be options"),
        ({"separator_conf": {3: 4}}, "is not the name of an option"),
        ({"encoder": "os.system"}, "there is no encoder os.system"),
        ({"decoder": "STFT"}, "there is no decoder STFT"),
        ({"separator": "evil.module"}, "there is no separator evil.module"),
        ({"separator": "asteroid", "separator_conf": {"pretrained_path": "x"}}, "load other code"),
        ({"use_adapter": True, "adapter": "lora"}, "adapters"),
        ({"sample_rate": "16k"}, "not a sampling rate"),
        ({"sample_rate": 0}, "not a sampling rate"),
        ({"sample_rate": True}, "not a sampling rate"),
        ({"encoder_conf": {"n_fft": "many"}}, "cannot be built"),
        ({"separator_conf": {"no_such_option": 1}}, "no_such_option"),
        ({"init": "evil"}, "cannot be built"),
        ({"criterions": "many"}, "cannot be built"),
        ({"separator_conf": {"channels": 16, "heads": 2}}, "does not fit"),
    ],
    ids=str,
)
def test_such_configurations_are_refused(options, words, contents, tmp_path, fails, monkeypatch):
    good = yaml.safe_load(contents[CONFIG])
    changed = {**good, **options} if isinstance(options, dict) else options
    text = yaml.safe_dump(changed).encode()
    packed = write_pack(tmp_path / "evil.zip", {**contents, CONFIG: text})
    line = refused(packed, None, tmp_path, fails, monkeypatch, words)
    assert (CONFIG in line) or (CHECKPOINT in line)


def weights(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def test_weights_that_run_code_are_not_run(contents, tmp_path, fails, monkeypatch):
    mark = tmp_path / "ran"
    evils = {
        "open": Evil(open, str(mark), "w"),
        "system": Evil(os.system, f"touch {mark}"),
        "eval": Evil(eval, f"open({str(mark)!r}, 'w')"),
    }
    for name, evil in evils.items():
        for content in (weights({"a": evil}), pickle.dumps({"a": evil}, protocol=2)):
            packed = write_pack(tmp_path / "evil.zip", {**contents, CHECKPOINT: content})
            line = refused(packed, None, tmp_path, fails, monkeypatch, CHECKPOINT)
            assert "could run code" in line and name in line
            assert "weights_only" not in line  # torch's advice is to load it all the same
            packed.unlink()
    assert not mark.exists()


def recompressed(content):
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for info in old.infolist():
            new.writestr(*compressed(info.filename, old.read(info)))
    return stream.getvalue()


WEIGHTS = {
    "empty": lambda good: b"",
    "garbage": lambda good: b"no weights",
    "cut": lambda good: good[: len(good) // 2],
    "a list": lambda good: weights([torch.zeros(1)]),
    "nothing in it": lambda good: weights({}),
    "numbers": lambda good: weights({"a": 1}),
    "another model": lambda good: weights({"a": torch.zeros(1)}),
    "compressed": recompressed,
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_such_weights_are_refused(kind, contents, tmp_path, fails, monkeypatch):
    content = WEIGHTS[kind](contents[CHECKPOINT])
    packed = write_pack(tmp_path / "bad.zip", {**contents, CHECKPOINT: content})
    refused(packed, None, tmp_path, fails, monkeypatch, f"bad.zip: {CHECKPOINT}")


def test_loading_reads_no_file_that_the_configuration_names(contents, tmp_path):
    """Whatever a training would read or run is left alone."""
    canary = tmp_path / "canary.scp"
    canary.write_text("a b\n")
    named = {
        **dict.fromkeys(("rir_scp", "noise_scp", "utt2spk", "teacher_config"), str(canary)),
        **dict.fromkeys(("teacher_model_file", "config", "output_dir"), str(canary)),
        "init_param": [f"{canary}:::"],
        "preprocessor": "enh",
        "preprocessor_conf": {"noise_scp": str(canary)},
        "train_data_path_and_name_and_type": [[str(canary), "speech_mix", "sound"]],
        "train_shape_file": [str(canary)],
        "train_dtype": "os.system",
        "optim": "os.system",
        "frontend": "s3prl",
        "unknown": "!!python/name:os.system",
    }
    options = {**yaml.safe_load(contents[CONFIG]), **named}
    packed = write_pack(tmp_path / "a.zip", {**contents, CONFIG: yaml.safe_dump(options).encode()})
    opened, listening = [], True

    def hook(event, arguments):
        if listening and event in ("open", "os.system", "subprocess.Popen"):
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)  # there is no way to remove one
    folder = fetch_model(str(packed), tmp_path / "enh", "valid.loss.best.pth")
    enhancer.load_enhancer(str(folder))
    listening = False
    assert any(name.endswith("config.yaml") for name in opened)  # the hook works
    assert not [name for name in opened if "canary" in name or name == "os.system"]
