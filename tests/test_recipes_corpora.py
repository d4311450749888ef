"""The recipes for VoiceBank-DEMAND and for own data, end to end, on tiny made-up recordings."""

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import soundfile
import yaml

from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import entry_seconds
from tests.corpora import dns_tree
from tests.corpora.vctk_tree import write_tree, zip_folder
from tests.recipes import (
    CONFIGS,
    RATE,
    ROOT,
    TINY,
    copy_repository,
    run_front_door,
    write_configs,
    write_recordings,
)

pytestmark = pytest.mark.recipes
KNOWN = "si_sdr=10:0.01 stoi=0.95:0.05"  # the tiny corpus is mixed at 10 dB


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of what the front door needs, with tiny configurations and recordings."""
    root = tmp_path_factory.mktemp("clone")
    copy_repository(root, "vctk_noisy", "custom", "dns")
    write_configs(root, TINY, TINY)
    write_tree(root / "corpus", seconds=1.2)
    zip_folder(root / "corpus" / "noisy_testset_wav")
    write_recordings(root)
    return root


def front_door(root, *options):
    return run_front_door(root, "--ngpu", "0", *CONFIGS, *options)


def voicebank(root, *options):
    """The recipe at the tiny corpus, whose numbers of utterances are those of none."""
    corpus = ["--corpus", "vctk_noisy", "--corpus_dir", "corpus", "--allow_incomplete", "true"]
    return front_door(root, *corpus, "--check_values", KNOWN, *options)


@pytest.fixture(scope="module")
def voicebank_run(repository):
    done = voicebank(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, repository / "egs2" / "vctk_noisy" / "enh1"


class TestVoiceBank:
    def test_all_models_are_scored_and_the_student_packed(self, voicebank_run):
        _, recipe = voicebank_run
        rows = json.loads((recipe / "exp" / "results.json").read_text())
        assert [row["system"] for row in rows] == [
            "noisy",
            "teacher",
            "student",
            "student_distill",
        ]
        assert all(row["num_utterances"] == 4 for row in rows)
        [packed] = (recipe / "exp" / "enh_student_distill").glob("*.zip")
        assert zipfile.is_zipfile(packed)

    def test_deviations_and_known_values_are_shown(self, voicebank_run):
        done, recipe = voicebank_run
        assert (
            "8 usable pairs, the corpus has 11572"
            in (recipe / "data" / "deviations.txt").read_text()
        )
        assert "resampled 4 of 4 utterances from 48000 to 16000 Hz" in done.stdout
        shown = re.search(r"unprocessed test set \(4 utterances\): SI-SDR ([\d.]+)", done.stdout)
        assert float(shown[1]) == pytest.approx(10, abs=0.01)

    def test_training_utterances_are_as_long_as_a_chunk_and_test_utterances_as_recorded(
        self, voicebank_run
    ):
        _, recipe = voicebank_run
        lengths = {
            name: {
                round(entry_seconds(str(recipe / entry)), 2)
                for entry in read_data_dir(recipe / "dump" / "raw" / name).mixture.values()
            }
            for name in ("train", "test")
        }
        assert lengths == {"train": {2.51}, "test": {1.21, 1.22}}

    def test_unexpected_scores_end_it_before_training(self, repository):
        done = voicebank(repository, "--check_values", "si_sdr=8.45:0.1", "--stage", "4",
                         "--expdir", "exp_refused")  # fmt: skip
        assert done.returncode == 1
        assert "does not score what it should: SI-SDR" in done.stdout + done.stderr
        assert "Stage 4 (filter by duration) failed" in done.stderr
        assert not (repository / "egs2/vctk_noisy/enh1/exp_refused/enh_teacher").exists()

    def test_an_incomplete_corpus_is_refused(self, repository):
        done = voicebank(repository, "--allow_incomplete", "false", "--expdir", "exp_refused",
                         "--datadir", "data_refused")  # fmt: skip
        assert done.returncode == 1
        assert "--allow_incomplete true" in done.stdout + done.stderr
        assert "Stage 1 (data preparation) failed" in done.stderr


class TestDNS:
    def test_speech_noise_and_rooms_are_mixed_while_the_teacher_is_trained(self, repository):
        dns_tree.write_tree(repository / "dns", "third")
        options = ["--dns_dir", "dns", "--heldout_utts", "2", "--stop_stage", "6"]
        options += ["--test_sets", "test test_reverb", "--enh_args", "--num_iters_per_epoch 6"]
        done = front_door(repository, "--corpus", "dns", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        recipe = repository / "egs2" / "dns" / "enh1"
        train = recipe / "dump" / "raw" / "train"
        for name, number in (("noise", 10), ("rir", 3)):
            entries = (train / f"{name}.scp").read_text().splitlines()
            assert len(entries) == number
            for entry in entries:
                signal, rate = soundfile.read(recipe / entry.split(maxsplit=1)[1])
                assert (signal.ndim, rate) == (1, RATE)
        config = yaml.safe_load((recipe / "exp" / "enh_teacher" / "config.yaml").read_text())
        assert config["noise_scp"] == "dump/raw/train/noise.scp"
        assert config["rir_scp"] == "dump/raw/train/rir.scp" and config["rir_apply_prob"] == 0.5
        assert (config["preprocessor"], config["noise_db_range"]) == ("enh", "-5_20")
        audio = {
            path.relative_to(recipe / "data").parts[1] for path in recipe.glob("data/**/*.wav")
        }
        assert audio == {"valid"}


class TestOwnData:
    def test_pairs_of_folders_become_training_data(self, repository):
        for name in ("noisy", "clean"):  # the corpus' training part, as own pairs
            shutil.copytree(
                repository / "corpus" / f"{name}_trainset_28spk_wav", repository / f"own_{name}"
            )
        done = front_door(repository, "--corpus", "custom", "--mixture_dir", "own_noisy",
                          "--reference_dir", "own_clean", "--stop_stage", "5")  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        recipe = repository / "egs2/custom/enh1"
        sets = [read_data_dir(recipe / "dump/raw" / name) for name in ("train", "valid", "test")]
        assert [len(data) for data in sets] == [4, 2, 2]
        assert (recipe / "exp/enh_stats_16k/train/speech_mix_shape").is_file()

    def test_recordings_without_references_join_the_training(self, repository):
        """The pairs of the test before, and recordings that half of their level enhances."""
        (repository / "half.py").write_text(
            "import soundfile, sys\nx, rate = soundfile.read(sys.argv[1])\n"
            "soundfile.write(sys.argv[2], x / 2, rate, 'FLOAT')\n"
        )
        (repository / "response.yaml").write_text("distiller: response\n")
        teacher = f"python {repository}/half.py {{input}} {{output}}"
        done = front_door(repository, "--corpus", "custom", "--mixture_dir", "own_noisy",
                          "--reference_dir", "own_clean", "--unlabelled_dir", "own_noisy",
                          "--teacher_command", teacher, "--datadir", "data_joined",
                          "--distill_config", "response.yaml",
                          "--dumpdir", "dump_joined", "--expdir", "exp_joined",
                          "--stop_stage", "7")  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "8 recordings (0.3 minutes) join 4 utterances" in done.stdout
        recipe = repository / "egs2/custom/enh1"
        joined = read_data_dir(recipe / "dump_joined/raw/train_unlabelled")
        assert len(joined) == 12
        for name in ("student", "student_response"):
            log = (recipe / "exp_joined" / f"enh_{name}" / "train.log").read_text()
            assert "dump_joined/raw/train_unlabelled/spk1.scp" in log
        assert (recipe / "exp_joined/enh_student_response/valid.loss.best.pth").is_file()

    def test_speech_and_noise_are_mixed_and_formatted(self, repository):
        speech, noise = repository / "speech" / "train", repository / "noise"
        for number, take in enumerate(sorted(speech.glob("*/*.wav"))):
            signal = soundfile.read(take)[0]
            (speech / f"cid{number}").mkdir()
            soundfile.write(speech / f"cid{number}" / "take.wav", signal, RATE)
        done = front_door(repository, "--corpus", "custom", "--speech_dir", str(speech),
                          "--noise_dir", str(noise), "--snr_range", "0 10", "--stop_stage", "4",
                          "--datadir", "data_mixed", "--dumpdir", "dump_mixed")  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        data = read_data_dir(repository / "egs2/custom/enh1/dump_mixed/raw/test")
        assert all(0 <= float(row["snr_db"]) <= 10 for row in data.metadata.values())

    def test_no_data_is_an_error_that_lists_the_options(self, repository):
        done = front_door(repository, "--corpus", "custom", "--expdir", "exp_refused")
        assert done.returncode == 1
        assert "give either --mixture_dir and --reference_dir" in done.stdout + done.stderr


@pytest.mark.parametrize("corpus", ["vctk_noisy", "custom"])
def test_help_shows_the_options_of_the_corpus(corpus):
    done = subprocess.run(
        ["./run.sh", "--corpus", corpus, "--help"], cwd=Path(ROOT), capture_output=True, text=True
    )
    assert done.returncode == 0
    assert {"vctk_noisy": "--split espnet", "custom": "--on_bad_file error"}[corpus] in done.stdout
