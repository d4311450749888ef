"""Publishing: what goes to the hub, what is refused, and that it comes back as it went."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from espnet2_tfckd.deploy.publish import WRITTEN
from espnet2_tfckd.stages.pack import pack_model
from tests.deploy.hub_stub import running_hub

CHECKPOINT = "valid.loss.best.pth"
ROWS = [
    {"system": name, "dataset": "test", "num_utterances": 2, "pesq_wb": pesq, "pesq_wb_ci95": 0.1}
    for name, pesq in (("noisy", 1.2), ("teacher", 1.9), ("other", 1.0), ("causal", 1.7))
]
ROWS[-1] |= {"num_params": 12345, "macs_per_second": 2.5e7, "rtf": 0.01}


@pytest.fixture
def experiment(causal_exp, causal_onnx, tmp_path):
    """A packed and scored model, with a listening pair."""
    (tmp_path / "results.json").write_text(json.dumps(ROWS))
    pack_model(causal_exp, CHECKPOINT, tmp_path / "packed.zip")
    for name, scp in (("data", "wav.scp"), ("enhanced", "spk1.scp")):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "utt1.wav", np.zeros(100), 16000)
        (tmp_path / name / scp).write_text(f"utt1 {tmp_path / name / 'utt1.wav'}\n")
    return tmp_path


def publish(experiment, causal_exp, *options, **environment):
    command = [sys.executable, "-m", "espnet2_tfckd.stages.publish", "--repo_id", "someone/small"]
    command += ["--exp_dir", causal_exp, "--packed", experiment / "packed.zip"]
    command += ["--results", experiment / "results.json", "--corpus", "made up"]
    command += ["--teacher", "teacher", "--folder", experiment / "hub"]
    command += ["--data_dir", experiment / "data", "--enhanced_dir", experiment / "enhanced"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"HF_HOME": str(experiment / "hf"), "HF_HUB_DISABLE_XET": "1", **environment}
    call = [str(argument) for argument in (*command, *options)]
    return subprocess.run(call, capture_output=True, text=True, env=env)


LICENCES = ("--license", "cc-by-4.0", "--corpus_license", "public domain")


def test_without_being_told_to_it_only_writes_the_folder(experiment, causal_exp):
    done = publish(experiment, causal_exp, *LICENCES)
    assert done.returncode == 0, done.stderr
    assert "not uploaded" in done.stdout
    hub = experiment / "hub"
    files = {str(p.relative_to(hub)) for p in hub.rglob("*") if p.is_file()}
    assert {"README.md", "meta.yaml", "samples/noisy.wav", "samples/enhanced.wav"} <= files
    assert {"exp/enh_causal/config.yaml", f"exp/enh_causal/{CHECKPOINT}"} <= files


def test_the_card_is_valid_and_says_what_the_model_is(experiment, causal_exp):
    from huggingface_hub import ModelCard

    publish(experiment, causal_exp, *LICENCES)
    text = (experiment / "hub" / "README.md").read_text()
    card = ModelCard(text)
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "espnet"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("pesq_wb", 1.7)
    for line in (
        "| noisy | test | 1.200 ± 0.100 |",
        "| teacher (teacher) | test | 1.900 ± 0.100 |",
        "| **this model** | test | 1.700 ± 0.100 |",
        "12,345 parameters, 25 MMAC per second of audio, real-time factor 0.010",
        "Corpus: made up (public domain).",
        'from_pretrained("someone/small")',
        "import espnet2_tfckd",
        "samples/noisy.wav",
    ):
        assert line in text
    assert "| other |" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "without a licence"),
        (("--license", "cc-by-4.0"), "without a licence"),
        ((*LICENCES, "--results", "none.json"), "none.json is not there"),
        ((*LICENCES, "--packed", "none.zip"), "none.zip is not there: run stage 11"),
    ],
)
def test_what_is_missing_is_refused_by_name(options, message, experiment, causal_exp):
    done = publish(experiment, causal_exp, *options)
    assert done.returncode == 1 and message in done.stderr
    assert not (experiment / "hub").exists()


def test_a_model_without_scores_is_refused(experiment, causal_exp):
    (experiment / "results.json").write_text(json.dumps(ROWS[:-1]))
    done = publish(experiment, causal_exp, *LICENCES)
    assert done.returncode == 1 and "has no scores of causal" in done.stderr


def test_what_is_published_comes_back_as_it_went(experiment, causal_exp, tmp_path):
    with running_hub() as (hub, address):
        secret = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_secret"}
        done = publish(experiment, causal_exp, *LICENCES, "--upload", **secret)
        assert done.returncode == 0, done.stderr
        assert "hf_secret" not in done.stdout + done.stderr
        files = hub.repositories["someone/small"]
        folder = experiment / "hub"
        for path in folder.rglob("*"):
            if path.is_file() and path.name != WRITTEN and ".cache" not in path.parts:
                assert files[str(path.relative_to(folder))] == path.read_bytes()
        assert WRITTEN not in files
        again = publish(experiment, causal_exp, *LICENCES, "--upload", **secret)
        assert again.returncode == 0, again.stderr  # the repository is there already

        code = (
            "from espnet2_tfckd.models.published import fetch_model\n"
            f"fetch_model('someone/small', {str(tmp_path / 'fetched')!r}, 'model.pth')\n"
        )
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf2")}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
    fetched = tmp_path / "fetched"
    assert (fetched / "model.pth").read_bytes() == (causal_exp / CHECKPOINT).read_bytes()
    config = yaml.safe_load((fetched / "config.yaml").read_text())
    assert config["separator_conf"]["causal"] is True


def test_an_earlier_folder_is_replaced_as_long_as_nobody_has_changed_it(experiment, causal_exp):
    hub = experiment / "hub"
    assert publish(experiment, causal_exp, *LICENCES).returncode == 0
    (hub / ".cache").mkdir()  # of the hub's library
    (hub / ".cache" / "upload").touch()
    (experiment / "data" / "utt1.wav").write_bytes((experiment / "data" / "utt1.wav").read_bytes())
    done = publish(experiment, causal_exp, *LICENCES)
    assert done.returncode == 0, done.stderr
    (hub / "notes.txt").write_text("mine")
    (hub / "samples" / "more").mkdir()
    (hub / "samples" / "more" / "mine.wav").write_text("mine")
    for change, left in (
        (hub / "notes.txt", "notes.txt"),
        (hub / "samples" / "more" / "mine.wav", "samples/more/mine.wav"),
        (hub / "README.md", "README.md"),
    ):
        change.write_text("mine")
        done = publish(experiment, causal_exp, *LICENCES)
        assert (
            done.returncode == 1 and f"{left} was not written here, or was changed" in done.stderr
        )
        assert change.read_text() == "mine"
        if left != "README.md":
            change.unlink()
    assert not [path for path in experiment.iterdir() if path.name.startswith(".hub.")]


@pytest.mark.parametrize("where", ["user", "link", "file", "exp", "above", "onnx", "samples"])
def test_a_folder_of_somebody_else_is_not_emptied(where, experiment, causal_exp):
    own = shutil.copytree(causal_exp, experiment / "enh_causal")
    (own / "onnx").mkdir()
    (experiment / "user").mkdir()
    (experiment / "user" / "thesis.txt").write_text("mine")
    (experiment / "link").symlink_to(own)
    (experiment / "file").write_text("mine")
    folders = {
        "user": experiment / "user",
        "link": experiment / "link",
        "file": experiment / "file",
        "exp": experiment / "user" / ".." / "enh_causal",
        "above": experiment,
        "onnx": own / "onnx" / "hub",
        "samples": experiment / "data",
    }
    before = {p: p.read_bytes() for p in experiment.rglob("*") if p.is_file()}
    done = publish(experiment, own, *LICENCES, "--folder", folders[where])
    assert done.returncode == 1 and "name another" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert {p: p.read_bytes() for p in experiment.rglob("*") if p.is_file()} == before


def test_a_damaged_packed_model_leaves_the_earlier_folder(experiment, causal_exp):
    assert publish(experiment, causal_exp, *LICENCES).returncode == 0
    before = {p: p.read_bytes() for p in (experiment / "hub").rglob("*") if p.is_file()}
    packed = experiment / "packed.zip"
    packed.write_bytes(packed.read_bytes()[:-100])
    done = publish(experiment, causal_exp, *LICENCES)
    assert done.returncode == 1 and "packed.zip cannot be read as a packed" in done.stderr
    after = {p: p.read_bytes() for p in (experiment / "hub").rglob("*") if p.is_file()}
    assert after == before


@pytest.mark.parametrize("text", ["", "{", "{}", '[{"system": "causal"}]', "[3]"])
def test_damaged_results_are_named(text, experiment, causal_exp):
    (experiment / "results.json").write_text(text)
    done = publish(experiment, causal_exp, *LICENCES)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "results.json is not" in done.stderr and "again" in done.stderr


def test_a_hub_that_refuses_is_named_with_the_remedy(experiment, causal_exp):
    with running_hub() as (_, address):
        done = publish(experiment, causal_exp, *LICENCES, "--upload", HF_ENDPOINT=address)
    assert done.returncode == 1
    assert "someone/small could not be published" in done.stderr and "HF_TOKEN" in done.stderr
    assert Path(experiment / "hub" / "README.md").is_file()
