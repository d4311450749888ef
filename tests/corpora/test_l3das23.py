"""L3DAS23 task 1: folders, microphones, splits, lengths, and what deviates from the corpus."""

import shutil

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.corpora import l3das23, l3das23_files
from espnet2_tfckd.corpora.l3das23 import prepare_l3das23
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import read_entry
from espnet2_tfckd.stages.format import format_data_dir
from tests.ambisonics import RATE, simulate_scene, syllables
from tests.corpora.l3das23_tree import folder_of, write_tree, write_utterance

SETS = {
    "train": ["14-208-0000", "14-208-0001", "16-3-0000", "17-5-0000"],
    "valid": ["105-7-0000", "96-1-0000"],
    "test": ["84-121123-0000", "84-121123-0001"],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("l3das") / "corpus", seconds=0.5)


@pytest.fixture
def corpus(tree, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(tree, tmp_path / "corpus")


@pytest.fixture
def dev(corpus):
    """The folder of the development set in that copy."""
    return folder_of(corpus, "dev")


def utterances(data_dir):
    return {name: list(read_data_dir(data_dir / name).mixture) for name in SETS}


def deviations(data_dir):
    return (data_dir / "deviations.txt").read_text().splitlines()


class TestSets:
    def test_two_training_speakers_are_held_out_and_dev_is_the_test_set(self, tree, tmp_path):
        prepare_l3das23(tree, tmp_path)
        assert utterances(tmp_path) == SETS
        assert not (tmp_path / "deviations.txt").exists()

    def test_less_training_data_leaves_every_speaker_in_its_set(self, tree, tmp_path):
        prepare_l3das23(tree, tmp_path, training_set="train100")
        assert utterances(tmp_path) == {
            "train": ["14-208-0000", "14-208-0001"],
            "valid": ["96-1-0000"],
            "test": SETS["test"],
        }

    def test_about_one_speaker_in_twenty_is_held_out(self):
        held_out = sum(l3das23.is_held_out(str(speaker)) for speaker in range(10000))
        assert held_out / 10000 == pytest.approx(1 / 20, abs=0.005)

    def test_speakers_and_transcripts_are_those_of_librispeech(self, tree, tmp_path):
        prepare_l3das23(tree, tmp_path)
        data = read_data_dir(tmp_path / "test")
        assert set(data.speaker.values()) == {"84"}
        assert data.text["84-121123-0000"] == "HE HOPED THERE WOULD BE STEW"


class TestFolders:
    def test_the_arrangement_of_the_challenges_own_script_gives_the_same(self, corpus, tmp_path):
        task = tmp_path / "arranged" / "Task1"
        whole = task / "L3DAS23_Task1_train360"
        shutil.move(folder_of(corpus, "train_100"), task / "L3DAS23_Task1_train100")
        shutil.move(folder_of(corpus, "dev"), task / "L3DAS23_Task1_dev")
        for part in ("train_360_part1", "train_360_part2"):
            shutil.copytree(folder_of(corpus, part), whole, dirs_exist_ok=True)
        shutil.copytree(task / "L3DAS23_Task1_dev", tmp_path / "arranged/Task2/L3DAS23_Task2_dev")
        prepare_l3das23(tmp_path / "arranged", tmp_path / "data")
        assert utterances(tmp_path / "data") == SETS

    @pytest.mark.parametrize("inner", ["", "data", "labels"])
    def test_a_folder_inside_the_corpus_stands_for_it(self, tree, tmp_path, inner):
        prepare_l3das23(folder_of(tree, "dev") / inner, tmp_path)
        assert utterances(tmp_path) == SETS

    def test_the_folder_around_a_part_stands_for_the_corpus(self, tree, tmp_path):
        prepare_l3das23(folder_of(tree, "train_100").parent, tmp_path)
        assert utterances(tmp_path) == SETS

    def test_hidden_files_are_no_utterances_and_suffixes_may_be_capital(self, corpus, tmp_path):
        for path in sorted(folder_of(corpus, "dev").glob("*/*.wav")):
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
            path.with_name(f".{path.stem}.7.partial.wav").write_bytes(b"RIFF")
            path.rename(path.with_suffix(".WAV"))
        for path in sorted(folder_of(corpus, "dev").glob("labels/*.txt")):
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
            path.rename(path.with_suffix(".TXT"))
        prepare_l3das23(corpus, tmp_path / "data", num_mics=2)
        assert utterances(tmp_path / "data") == SETS
        assert len(read_data_dir(tmp_path / "data" / "test").text) == 2

    def test_folders_of_macos_zips_are_not_the_corpus(self, corpus, tmp_path):
        for kind in ("data", "labels"):
            folder = corpus / "__MACOSX" / "L3DAS23_Task1_dev" / kind
            folder.mkdir(parents=True)
            (folder / "._84-121123-0000.wav").write_bytes(b"\0\5\x16\7")
        prepare_l3das23(corpus, tmp_path / "data")
        assert utterances(tmp_path / "data") == SETS
        shutil.rmtree(folder_of(corpus, "dev"))
        with pytest.raises(FileNotFoundError, match=r"labels/: dev\."):
            prepare_l3das23(corpus, tmp_path / "data")

    def test_zips_that_are_still_packed_are_named(self, corpus, tmp_path):
        shutil.rmtree(folder_of(corpus, "dev").parent)
        (corpus / "L3DAS23_Task1_dev.zip").write_bytes(b"PK")
        with pytest.raises(FileNotFoundError, match=r": dev\. Unpack L3DAS23_Task1_dev.zip$"):
            prepare_l3das23(corpus, tmp_path / "data")

    def test_the_corpus_is_not_written_into(self, corpus, tmp_path):
        elsewhere = tmp_path / "d" / "audio"
        shutil.move(corpus, elsewhere)
        with pytest.raises(ValueError, match="audio holds the input"):
            prepare_l3das23(elsewhere, tmp_path / "d", num_mics=2)

    def test_missing_folders_are_named_with_the_remedy(self, corpus, tmp_path):
        shutil.rmtree(folder_of(corpus, "train_100"))
        shutil.rmtree(folder_of(corpus, "dev"))
        with pytest.raises(FileNotFoundError, match=r"train100, dev\. .*--download true"):
            prepare_l3das23(corpus, tmp_path / "data")

    def test_an_utterance_in_both_parts_is_named(self, corpus, tmp_path):
        one, two = (folder_of(corpus, f"train_360_part{n}") for n in (1, 2))
        shutil.copytree(one, two, dirs_exist_ok=True)
        with pytest.raises(ValueError, match=r"part2/data/16-3-0000_A.wav: is in .*part1.* well"):
            prepare_l3das23(corpus, tmp_path / "data")


class TestMicrophones:
    def test_one_microphone_is_used_where_it_is(self, tree, tmp_path):
        prepare_l3das23(tree, tmp_path)
        data = read_data_dir(tmp_path / "test")
        dev = folder_of(tree, "dev")
        assert data.mixture["84-121123-0000"] == str(dev / "data" / "84-121123-0000_A.wav")
        assert data.reference["84-121123-0000"] == str(dev / "labels" / "84-121123-0000.wav")
        assert not (tmp_path / "audio").exists()

    def test_two_microphones_are_joined_a_before_b(self, tree, tmp_path):
        prepare_l3das23(tree, tmp_path, num_mics=2)
        joined, rate = read_entry(read_data_dir(tmp_path / "test").mixture["84-121123-0001"])
        files = [folder_of(tree, "dev") / "data" / f"84-121123-0001_{mic}.wav" for mic in "AB"]
        expected = np.concatenate([soundfile.read(file)[0] for file in files], axis=1)
        assert (rate, joined.shape[1]) == (RATE, 8)
        np.testing.assert_allclose(joined, expected, atol=2**-15)

    def test_directions_of_both_microphones_outlast_preparation_and_format(self, corpus, tmp_path):
        rng = np.random.default_rng(5)
        speech = syllables(rng, RATE // 2)
        scene = simulate_scene(rng, speech, np.zeros_like(speech), 0, num_mics=2, max_order=0)
        write_utterance(folder_of(corpus, "dev"), "84-1-0000", scene)
        prepare_l3das23(corpus, tmp_path / "data", num_mics=2)
        format_data_dir(tmp_path / "data/test", tmp_path / "dump", audio_format="flac")
        mixture, _ = read_entry(read_data_dir(tmp_path / "dump").mixture["84-1-0000"])
        for position, signal in zip(scene.microphones, np.split(mixture, 2, axis=1), strict=True):
            x, y, z = (scene.talker - position) / np.linalg.norm(scene.talker - position)
            w = signal[:, 0]
            np.testing.assert_allclose(signal.T @ w / (w @ w), [1, y, z, x], atol=2e-3)

    def test_microphone_b_may_be_missing_unless_it_is_asked_for(self, corpus, dev, tmp_path):
        (dev / "data" / "84-121123-0000_B.wav").unlink()
        prepare_l3das23(corpus, tmp_path / "one", num_mics=1)
        with pytest.raises(ValueError, match="84-121123-0000_B.wav: is missing"):
            prepare_l3das23(corpus, tmp_path / "two", num_mics=2)


class TestLengths:
    def shorten(self, file, samples):
        signal, _ = soundfile.read(file)
        soundfile.write(file, signal[:-samples], RATE)

    def test_the_longer_is_cut_at_its_end_and_listed(self, corpus, dev, tmp_path, capsys):
        mixture, reference = (dev / name for name in ("data/84-121123-0000_A.wav", "labels"))
        self.shorten(reference / "84-121123-0000.wav", 100)
        before, _ = soundfile.read(mixture)
        prepare_l3das23(corpus, tmp_path / "data")
        data = read_data_dir(tmp_path / "data" / "test")
        after, _ = read_entry(data.mixture["84-121123-0000"])
        np.testing.assert_allclose(after, before[:-100], atol=2**-15)
        assert data.reference["84-121123-0000"] == str(reference / "84-121123-0000.wav")
        [line] = deviations(tmp_path / "data")
        assert line.startswith(f"{mixture}: has {len(before)} samples")
        assert f"utterance {len(before) - 100}: cut" in line
        assert "1 with files of unequal length" in capsys.readouterr().out

    def test_a_microphone_that_is_shorter_cuts_all(self, corpus, dev, tmp_path):
        file = dev / "data" / "84-121123-0000_B.wav"
        self.shorten(file, 160)
        prepare_l3das23(corpus, tmp_path / "data", num_mics=2)
        data = read_data_dir(tmp_path / "data" / "test")
        entries = data.mixture["84-121123-0000"], data.reference["84-121123-0000"]
        assert [len(read_entry(e)[0]) for e in entries] == [soundfile.info(file).frames] * 2

    def test_less_than_half_of_the_length_is_a_problem(self, corpus, dev, tmp_path):
        self.shorten(dev / "labels" / "84-121123-0000.wav", RATE * 2 // 5)
        with pytest.raises(ValueError, match="restore the shorter"):
            prepare_l3das23(corpus, tmp_path / "data")

    def test_uncut_pads_the_test_set_to_12_seconds_with_zeros(self, tree, tmp_path):
        prepare_l3das23(tree, tmp_path, test_length="uncut")
        test, train = (read_data_dir(tmp_path / name) for name in ("test", "train"))
        original = soundfile.info(folder_of(tree, "dev") / "labels" / "84-121123-0000.wav").frames
        for table, channels in ((test.mixture, 4), (test.reference, 1)):
            signal, _ = read_entry(table["84-121123-0000"])
            assert signal.shape == (12 * RATE, channels)
            assert signal[:original].any() and not signal[original:].any()
        assert len(read_entry(train.mixture["14-208-0000"])[0]) < RATE


BAD_FILES = {
    "missing partner": (
        lambda dev: (dev / "labels" / "84-121123-0000.wav").unlink(),
        r"labels/84-121123-0000.wav: is missing",
    ),
    "missing mixture": (
        lambda dev: (dev / "data" / "84-121123-0000_A.wav").unlink(),
        r"data/84-121123-0000_A.wav: is missing",
    ),
    "channels": (
        lambda dev: soundfile.write(
            dev / "data" / "84-121123-0000_A.wav", np.full((8000, 2), 0.1), RATE
        ),
        r"84-121123-0000_A.wav: has 2 channels, the corpus 4",
    ),
    "rate": (
        lambda dev: soundfile.write(
            dev / "labels" / "84-121123-0000.wav", np.full(8000, 0.1), 8000
        ),
        r"84-121123-0000.wav: has 8000 Hz, the corpus 16000 Hz",
    ),
    "silence": (
        lambda dev: soundfile.write(dev / "labels" / "84-121123-0000.wav", np.zeros(8000), RATE),
        r"84-121123-0000.wav: is silent",
    ),
    "unreadable": (
        lambda dev: (dev / "data" / "84-121123-0000_A.wav").write_bytes(b"RIFF"),
        r"84-121123-0000_A.wav: is not readable audio",
    ),
    "name": (
        lambda dev: [
            shutil.copy(dev / f"{kind}.wav", dev / f"{other}.wav")
            for kind, other in (
                ("data/84-121123-0000_A", "data/copy_A"),
                ("labels/84-121123-0000", "labels/copy"),
            )
        ],
        r"copy_A.wav: is named unlike the corpus' files",
    ),
}


class TestBadFiles:
    @pytest.mark.parametrize("spoil, complaint", BAD_FILES.values(), ids=BAD_FILES)
    def test_they_are_named_or_left_out(self, corpus, dev, tmp_path, spoil, complaint):
        spoil(dev)
        with pytest.raises(ValueError, match=complaint):
            prepare_l3das23(corpus, tmp_path / "data")
        prepare_l3das23(corpus, tmp_path / "data", on_bad_file="skip")
        assert any(
            "84-121123-0000" in line or "copy" in line for line in deviations(tmp_path / "data")
        )
        kept = utterances(tmp_path / "data")["test"]
        assert "84-121123-0001" in kept and "copy" not in kept

    def test_a_set_that_is_left_empty_is_refused(self, corpus, dev, tmp_path):
        for file in (dev / "labels").glob("*.wav"):
            file.unlink()
        with pytest.raises(
            ValueError, match="no utterance is left for .*test: see .*deviations.txt"
        ):
            prepare_l3das23(corpus, tmp_path / "data", on_bad_file="skip")


class TestRerun:
    def test_nothing_is_done_again_until_a_file_or_option_changes(self, corpus, dev, tmp_path):
        data_dir = tmp_path / "data"

        def written():
            return (data_dir / "test" / "wav.scp").stat().st_mtime_ns

        prepare_l3das23(corpus, data_dir)
        first = written()
        prepare_l3das23(corpus, data_dir)
        assert written() == first
        prepare_l3das23(corpus, data_dir, num_mics=2)
        second = written()
        assert second > first
        for file in (*dev.glob("data/84-121123-0001_*.wav"), dev / "labels/84-121123-0001.wav"):
            file.unlink()
        prepare_l3das23(corpus, data_dir, num_mics=2)
        assert written() > second
        assert utterances(data_dir)["test"] == ["84-121123-0000"]


class TestDownload:
    def test_without_the_client_it_is_said_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(RuntimeError, match=r"pip install kaggle.*kaggle\.json.*yourself"):
            prepare_l3das23(tmp_path / "corpus", tmp_path / "data", download=True)

    def test_a_client_that_fails_points_to_its_token(self, tmp_path, monkeypatch):
        self.client(tmp_path, monkeypatch, "exit 3")
        with pytest.raises(RuntimeError, match=r"failed \(status 3, see above\).*API token"):
            prepare_l3das23(tmp_path / "corpus", tmp_path / "data", download=True)

    def test_what_the_client_unpacks_is_used_and_not_fetched_again(
        self, tree, tmp_path, monkeypatch
    ):
        self.client(
            tmp_path, monkeypatch, f'/bin/cp -r {tree}/* "$5"; echo "$@" >> {tmp_path}/calls'
        )
        for data_dir in ("one", "two"):
            prepare_l3das23(tmp_path / "corpus", tmp_path / data_dir, download=True)
        assert utterances(tmp_path / "two") == SETS
        call = f"datasets download {l3das23_files.DATASET} -p {tmp_path}/corpus --unzip\n"
        assert (tmp_path / "calls").read_text() == call

    def client(self, folder, monkeypatch, body):
        script = folder / "bin" / "kaggle"
        script.parent.mkdir()
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(script.parent))


def test_command_line(tree, tmp_path, capsys, monkeypatch):
    places = ["--corpus_dir", str(tree), "--data_dir", str(tmp_path)]
    l3das23.main([*places, "--num_mics", "2", "--training_set", "train360", "--nj", "1"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"data directories: {tmp_path}/{{train,valid,test}}"
    monkeypatch.setattr("sys.argv", ["l3das23", "--corpus_dir", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        run_command(l3das23.main)
    assert stop.value.code == 1
