"""The L3DAS23 recipe end to end with one and two microphones, on tiny simulated rooms."""

import json
import shutil

import pytest
import yaml

from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import read_entry
from tests.corpora.l3das23_tree import write_tree
from tests.recipes import CONFIGS, RATE, TINY, copy_repository, run_front_door, write_configs

pytestmark = pytest.mark.recipes
FOUR_CHANNELS = {**TINY, "separator_conf": {**TINY["separator_conf"], "microphones": 4}}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of what the front door needs, with tiny configurations and rooms."""
    root = tmp_path_factory.mktemp("clone")
    copy_repository(root, "l3das23")
    write_configs(root, FOUR_CHANNELS, FOUR_CHANNELS)
    write_tree(root / "corpus")
    return root


def run_recipe(root, *options):
    corpus = ("--corpus", "l3das23", "--corpus_dir", "corpus")
    done = run_front_door(root, *corpus, *CONFIGS, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "egs2" / "l3das23" / "enh1"


@pytest.fixture(scope="module")
def one_microphone(repository):
    """The recipe's directory after all stages but that of the recogniser."""
    return run_recipe(repository, "--asr_model", "")


@pytest.fixture(scope="module")
def two_microphones(repository):
    folders = ["--datadir", "data/8ch", "--dumpdir", "dump/8ch", "--expdir", "exp/8ch"]
    return run_recipe(repository, "--asr_model", "", "--num_mics", "2", *folders)


@pytest.mark.parametrize("channels, infix", [(4, ""), (8, "8ch/")])
class TestEveryStage:
    @pytest.fixture
    def recipe(self, channels, request):
        name = {4: "one_microphone", 8: "two_microphones"}[channels]
        return request.getfixturevalue(name)

    def test_mixtures_keep_their_channels_and_references_are_mono(self, recipe, channels, infix):
        for name in ("train", "valid", "test"):
            data = read_data_dir(recipe / f"dump/{infix}raw" / name)
            for entries, expected in ((data.mixture, channels), (data.reference, 1)):
                shapes = {read_entry(str(recipe / entry))[0].shape[1] for entry in entries.values()}
                assert shapes == {expected}

    def test_teacher_and_students_are_built_for_the_channels(self, recipe, channels, infix):
        for name in ("teacher", "student", "student_distill"):
            config = recipe / f"exp/{infix}enh_{name}" / "config.yaml"
            assert yaml.safe_load(config.open())["separator_conf"]["microphones"] == channels

    def test_noisy_and_all_models_are_scored_in_w(self, recipe, channels, infix):
        rows = json.loads((recipe / f"exp/{infix}results.json").read_text())
        assert [row["system"] for row in rows] == ["noisy", "teacher", "student", "student_distill"]
        assert all(row["num_utterances"] == 2 and row["num_failed"] == 0 for row in rows)
        assert all(row["rtf"] > 0 for row in rows[1:])

    def test_every_signal_can_be_heard_in_the_report(self, recipe, channels, infix):
        html = (recipe / f"exp/{infix}report.html").read_text()
        assert html.count("<audio") == 2 * 5  # noisy, three systems, reference
        assert "Not to be heard" not in html

    def test_the_packed_student_enhances_to_one_channel(self, recipe, channels, infix, tmp_path):
        from espnet2.bin.enh_inference import SeparateSpeech

        import espnet2_tfckd  # noqa: F401

        exp_dir = recipe / f"exp/{infix}enh_student_distill"
        [packed] = exp_dir.glob("*.zip")
        copy = shutil.copy(packed, tmp_path / f"{channels}.zip")
        enhance = SeparateSpeech.from_pretrained(str(copy))
        utterance = "84-121123-0000"
        data = read_data_dir(recipe / f"dump/{infix}raw/test")
        mixture, rate = read_entry(str(recipe / data.mixture[utterance]))
        [estimate] = enhance(mixture[None], fs=rate)
        written, _ = read_entry(str(exp_dir / f"enhanced_test/wavs/{utterance}.wav"))
        assert estimate.shape == (1, len(mixture))
        assert abs(estimate[0] - written[:, 0]).max() < 1e-4

    def test_the_student_is_exported(self, recipe, channels, infix):
        meta = json.loads((recipe / f"exp/{infix}enh_student_distill/onnx/meta.json").read_text())
        assert meta["microphones"] == channels


def test_stage_10_adds_word_errors_to_the_results(repository, one_microphone):
    pytest.importorskip("pocketsphinx")
    before = json.loads((one_microphone / "exp" / "results.json").read_text())
    run_recipe(repository, "--stage", "10", "--stop_stage", "10", "--asr_model", "pocketsphinx")
    after = json.loads((one_microphone / "exp" / "results.json").read_text())
    for old, new in zip(before, after, strict=True):
        assert new["si_sdr"] == old["si_sdr"]
        assert new["recogniser"] == "pocketsphinx"
        silent = len(new["failed"].get("wer", ()))
        assert silent == 2 or 0 <= new["wer"] <= 1 and 0 <= new["task1_metric"] <= 1
    assert "`pocketsphinx`" in (one_microphone / "exp" / "RESULTS.md").read_text()
    assert "<code>pocketsphinx</code>" in (one_microphone / "exp" / "report.html").read_text()
    assert (one_microphone / "exp" / "log" / "stage10.log").is_file()


def test_a_lost_profile_is_measured_again_with_the_channels_of_the_data(repository, one_microphone):
    profile = one_microphone / "exp" / "enh_student" / "profile.json"
    before = json.loads(profile.read_text())
    profile.unlink()
    run_recipe(repository, "--stage", "8", "--stop_stage", "8")
    after = json.loads(profile.read_text())
    assert after["macs_per_second"] == before["macs_per_second"]


def test_uncut_evaluation_is_of_12_seconds(repository):
    folders = ["--datadir", "data/uncut", "--dumpdir", "dump/uncut", "--expdir", "exp/uncut"]
    recipe = run_recipe(repository, "--test_length", "uncut", "--stop_stage", "4", *folders)
    data = read_data_dir(recipe / "dump/uncut/raw/test")
    lengths = {len(read_entry(entry)[0]) for entry in data.mixture.values()}
    assert lengths == {12 * RATE}
