"""Stage 10: transcripts in the journals, scores beside those of stage 9, and recognisers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.scoring.metrics import stoi
from espnet2_tfckd.scoring.recogniser import load_recogniser
from espnet2_tfckd.stages import asr_score as stage
from espnet2_tfckd.stages.asr_score import asr_score
from espnet2_tfckd.stages.score import score

# What the stand-in hears: by the file's name, since every file's content is one of a kind.
HEARD = {
    ("utt0", "reference"): "one two three four",
    ("utt0", "mixture"): "one two tree four five",  # 2 errors in 4 words
    ("utt1", "reference"): "yes",
    ("utt1", "mixture"): "no no",  # 2 errors in 1 word
    ("utt2", "reference"): "",
    ("utt2", "mixture"): "hm",
    ("utt3", "reference"): "good bye",
    ("utt3", "mixture"): "good bye",
}


@pytest.fixture
def recognised(data_dir, monkeypatch):
    """Replaces the recogniser by a table; lists what it was asked for."""
    table, asked = {}, []
    data = read_data_dir(data_dir)
    for (name, side), words in HEARD.items():
        entry = getattr(data, side)[f"spk-{name}"]
        table[soundfile.read(entry, dtype="float32")[0].tobytes()] = (name, side, words)

    def recognise(signal):
        name, side, words = table[signal.astype(np.float32).tobytes()]
        asked.append((name, side))
        return words

    monkeypatch.setattr(stage, "load_recogniser", lambda name, device: recognise)
    return asked


def run(data_dir, exp_dir, model="stand-in"):
    systems = {"noisy": data_dir / "wav.scp"}
    return asr_score(data_dir, "test", systems, exp_dir, model, num_jobs=1)


@pytest.fixture
def exp_dir(tmp_path):
    return tmp_path / "exp"


def test_means_are_over_utterances_with_words_and_limited_first(data_dir, exp_dir, recognised):
    [row] = run(data_dir, exp_dir)
    data, stois = read_data_dir(data_dir), {}
    for utterance in data.mixture:
        pair = (soundfile.read(t[utterance])[0] for t in (data.reference, data.mixture))
        stois[utterance] = stoi(*pair, 16000)
    assert row["wer"] == pytest.approx((0.5 + 1 + 0) / 3)
    rights = {"spk-utt0": 0.5, "spk-utt1": 0, "spk-utt3": 1}
    metrics = [(stois[utterance] + right) / 2 for utterance, right in rights.items()]
    assert row["task1_metric"] == pytest.approx(sum(metrics) / 3)
    assert row["stoi"] == pytest.approx(sum(stois.values()) / 4)


def test_a_reference_without_words_is_counted_apart(data_dir, exp_dir, recognised):
    [row] = run(data_dir, exp_dir)
    assert row["failed"] == {"wer": ["spk-utt2"], "task1_metric": ["spk-utt2"]}
    assert (row["num_utterances"], row["num_failed"]) == (4, 1)
    text = (exp_dir / "RESULTS.md").read_text()
    assert (
        "WER of noisy on test leaves out 1 of 4 utterances that it cannot score: `spk-utt2`" in text
    )


def test_the_table_says_who_recognised(data_dir, exp_dir, recognised):
    [row] = run(data_dir, exp_dir)
    assert row["recogniser"] == "stand-in"
    text = (exp_dir / "RESULTS.md").read_text()
    assert "|dataset|system|utterances|STOI|WER|Task 1 metric|" in text
    assert "errors per word in what `stand-in` hears" in text


def test_neither_stage_disturbs_the_others_results(data_dir, exp_dir, recognised):
    systems = {"noisy": data_dir / "wav.scp"}
    [before] = score(data_dir, "test", systems, exp_dir, ["SEG_SNR"], 1)
    [both] = run(data_dir, exp_dir)
    assert both["seg_snr"] == before["seg_snr"]
    [after] = score(data_dir, "test", systems, exp_dir, ["SEG_SNR", "ESTOI"], 1)
    kept = ("wer", "task1_metric", "stoi", "seg_snr", "failed", "recogniser")
    assert {key: after[key] for key in kept} == {key: both[key] for key in kept}
    assert after["estoi"] is not None


def test_without_a_recogniser_the_tables_are_as_before(data_dir, exp_dir):
    [row] = score(data_dir, "test", {"noisy": data_dir / "wav.scp"}, exp_dir, ["SEG_SNR"], 1)
    assert (row["wer"], row["recogniser"]) == (None, None)
    assert "WER" not in (exp_dir / "RESULTS.md").read_text()


def test_references_are_recognised_once_for_all_systems(data_dir, exp_dir, recognised):
    systems = {name: data_dir / "wav.scp" for name in ("one", "two")}
    asr_score(data_dir, "test", systems, exp_dir, "stand-in", 1)
    assert len(recognised) == 4 + 2 * 4
    asr_score(data_dir, "test", {"three": data_dir / "wav.scp", **systems}, exp_dir, "stand-in", 1)
    assert recognised[12:] == [(f"utt{n}", "mixture") for n in range(4)]


def test_an_interrupted_run_goes_on_where_it_was(data_dir, exp_dir, recognised, monkeypatch):
    append = stage.append_to_journal

    def fail_at_the_third(system, record):
        append(system, record)
        if record["id"] == "spk-utt2":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "append_to_journal", fail_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            run(data_dir, exp_dir)
    [row] = run(data_dir, exp_dir)
    assert sorted(recognised) == sorted(HEARD)
    assert row["wer"] == pytest.approx(0.5)


def test_another_recogniser_or_changed_audio_is_recognised_again(
    data_dir, exp_dir, recognised, rewrite_audio
):
    run(data_dir, exp_dir)
    [row] = run(data_dir, exp_dir, model="another")
    assert (len(recognised), row["recogniser"]) == (16, "another")
    data = read_data_dir(data_dir)
    mixture, _ = soundfile.read(data.mixture["spk-utt3"], dtype="float32")
    rewrite_audio(Path(data.reference["spk-utt3"]), mixture)
    run(data_dir, exp_dir, model="another")
    assert recognised[16:] == [("utt3", "mixture"), ("utt3", "mixture")]


class TestRecognisers:
    def test_pocketsphinx_hears_the_same_every_time(self):
        pytest.importorskip("pocketsphinx")
        rng = np.random.default_rng(0)
        signal = 0.3 * rng.standard_normal(16000) * np.sin(np.arange(16000) * 6.3e-4) ** 2
        recognise = load_recogniser("pocketsphinx")
        first = recognise(signal)
        assert isinstance(first, str)
        assert recognise(signal) == first

    def test_a_ctc_model_is_loaded_from_its_folder(self, tmp_path):
        transformers = pytest.importorskip("transformers")
        letters = ["<pad>", "<s>", "</s>", "<unk>", "|", "A"]
        (tmp_path / "vocab.json").write_text(json.dumps({c: n for n, c in enumerate(letters)}))
        tokenizer = transformers.Wav2Vec2CTCTokenizer(tmp_path / "vocab.json")
        extractor = transformers.Wav2Vec2FeatureExtractor()
        transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(tmp_path)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.Wav2Vec2Config(
            vocab_size=len(letters), intermediate_size=16, conv_dim=[8] * 7, **sizes
        )
        model = transformers.Wav2Vec2ForCTC(config)
        model.lm_head.weight.data.zero_()
        model.lm_head.bias.data[:] = torch.tensor([letter == "A" for letter in letters])
        model.save_pretrained(tmp_path)
        signal = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
        assert load_recogniser(str(tmp_path))(signal) == "A"

    def test_a_missing_package_is_named_with_the_remedy(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(RuntimeError, match="needs the package transformers: pip install"):
            load_recogniser("facebook/wav2vec2-base-960h")

    def test_a_model_that_cannot_be_had_is_named_with_the_remedy(self, tmp_path):
        pytest.importorskip("transformers")
        with pytest.raises(RuntimeError, match=r"cannot be loaded .*--asr_model FOLDER"):
            load_recogniser(str(tmp_path))


def test_an_unusable_recogniser_is_one_line_on_stderr_and_status_1(data_dir, exp_dir):
    command = [sys.executable, "-m", "espnet2_tfckd.stages.asr_score", "--data_dir", str(data_dir)]
    command += ["--dataset", "test", "--results", str(exp_dir), "--nj", "1"]
    command += ["--system", f"noisy={data_dir / 'wav.scp'}", "--asr_model", "no/such-model"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 1
    assert "error: " in done.stderr and "no/such-model" in done.stderr
    assert '--asr_model ""' in done.stderr
    assert "Traceback" not in done.stderr
