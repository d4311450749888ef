"""VoiceBank-DEMAND: splits, deviations from what is distributed, folders and zips."""

import shutil

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.corpora import vctk_noisy
from espnet2_tfckd.corpora.vctk_noisy import PARTS, prepare_vctk_noisy
from espnet2_tfckd.data.datadir import read_data_dir
from tests.corpora.vctk_tree import RATE, write_tree, zip_folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("vctk") / "corpus")


@pytest.fixture
def corpus(tree, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(tree, tmp_path / "corpus")


@pytest.fixture(autouse=True)
def tiny_totals(monkeypatch):
    """Expect what the tiny corpus holds instead of 11572 and 824 utterances."""
    parts = {
        "train": PARTS["train"]._replace(utterances=8, speakers=4, hours=(0.001, 0.002)),
        "test": PARTS["test"]._replace(utterances=4, speakers=2, hours=(0.0005, 0.001)),
    }
    monkeypatch.setattr(vctk_noisy, "PARTS", parts)


def speakers(data_dir):
    return {s: sorted(set(read_data_dir(data_dir / s).speaker.values())) for s in vctk_noisy.SPLITS}


class TestSplits:
    def test_espnet_holds_two_training_speakers_out(self, tree, tmp_path):
        prepare_vctk_noisy(tree, tmp_path)
        assert speakers(tmp_path) == {
            "train": ["p228", "p230"],
            "valid": ["p226", "p287"],
            "test": ["p232", "p257"],
        }
        assert not (tmp_path / "deviations.txt").exists()

    def test_papers_train_on_all_and_validate_on_the_test_set(self, tree, tmp_path):
        prepare_vctk_noisy(tree, tmp_path, split="papers")
        found = speakers(tmp_path)
        assert found["train"] == ["p226", "p228", "p230", "p287"]
        assert found["valid"] == found["test"] == ["p232", "p257"]

    def test_mixture_reference_and_transcript_belong_together(self, tree, tmp_path):
        prepare_vctk_noisy(tree, tmp_path)
        data = read_data_dir(tmp_path / "train")
        utterance = "p228_002"
        assert data.mixture[utterance] == str(tree / "noisy_trainset_28spk_wav" / "p228_002.wav")
        assert data.reference[utterance] == str(tree / "clean_trainset_28spk_wav" / "p228_002.wav")
        assert data.text[utterance] == "Please call p228."

    def test_transcripts_are_optional(self, corpus, tmp_path):
        shutil.rmtree(corpus / "testset_txt")
        prepare_vctk_noisy(corpus, tmp_path / "data")
        assert not (tmp_path / "data" / "test" / "text").exists()
        assert (tmp_path / "data" / "train" / "text").exists()


class TestFoldersAndZips:
    def test_zips_and_folders_one_level_down_give_the_same_sets(self, corpus, tree, tmp_path):
        zip_folder(corpus / "noisy_trainset_28spk_wav")
        zip_folder(corpus / "clean_testset_wav")
        zip_folder(corpus / "testset_txt")
        nested = corpus / "noisy_testset_wav"
        nested.rename(corpus / "moved")
        nested.mkdir()
        (corpus / "moved").rename(nested / nested.name)
        prepare_vctk_noisy(corpus, tmp_path / "data")
        prepare_vctk_noisy(tree, tmp_path / "expected")
        for name in vctk_noisy.SPLITS:
            found = read_data_dir(tmp_path / "data" / name)
            expected = read_data_dir(tmp_path / "expected" / name)
            assert list(found.mixture) == list(expected.mixture)
            assert found.text == expected.text

    @pytest.mark.parametrize(
        "inner", ["noisy_testset_wav", "clean_trainset_28spk_wav", "testset_txt"]
    )
    def test_a_folder_of_the_corpus_stands_for_it(self, tree, tmp_path, inner):
        prepare_vctk_noisy(tree / inner, tmp_path)
        assert speakers(tmp_path)["test"] == ["p232", "p257"]

    @pytest.mark.parametrize("packed", [True, False])
    def test_the_folder_around_stands_for_it(self, corpus, tmp_path, packed):
        for folder in list(corpus.glob("*_wav")) if packed else ():
            zip_folder(folder)
        corpus.rename(tmp_path / "DS_10283_2791")
        (tmp_path / "else").mkdir()
        prepare_vctk_noisy(tmp_path, tmp_path / "data")
        assert speakers(tmp_path / "data")["test"] == ["p232", "p257"]

    def test_hidden_files_are_no_recordings_and_suffixes_may_be_capital(self, corpus, tmp_path):
        for path in sorted(corpus.glob("*_testset_wav/*.wav")):
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
            path.rename(path.with_suffix(".WAV"))
        for path in sorted(corpus.glob("testset_txt/*.txt")):
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
            path.rename(path.with_suffix(".TXT"))
        prepare_vctk_noisy(corpus, tmp_path / "data")
        data = read_data_dir(tmp_path / "data" / "test")
        assert (len(data), len(data.text)) == (4, 4)
        assert not (tmp_path / "data" / "deviations.txt").exists()

    def test_an_interrupted_unpacking_is_done_again(self, corpus, tmp_path):
        zip_folder(corpus / "noisy_testset_wav")
        partial = corpus / ".noisy_testset_wav.partial"
        partial.mkdir()
        (partial / "p232_001.wav").write_bytes(b"half")
        prepare_vctk_noisy(corpus, tmp_path / "data")
        assert not partial.exists()
        assert len(read_data_dir(tmp_path / "data" / "test")) == 4

    def test_a_damaged_zip_is_named(self, corpus, tmp_path):
        archive = corpus / "noisy_testset_wav.zip"
        zip_folder(corpus / "noisy_testset_wav")
        archive.write_bytes(archive.read_bytes()[:-100])
        with pytest.raises(ValueError, match="noisy_testset_wav.zip is damaged.*delete it"):
            prepare_vctk_noisy(corpus, tmp_path / "data")

    def test_all_missing_folders_are_named(self, corpus, tmp_path):
        for name in ("clean_testset_wav", "clean_trainset_28spk_wav"):
            shutil.rmtree(corpus / name)
        message = "lacks.*clean_trainset_28spk_wav or .*clean_testset_wav or .*--download true"
        with pytest.raises(FileNotFoundError, match=message):
            prepare_vctk_noisy(corpus, tmp_path / "data")

    def test_only_missing_zips_are_fetched(self, corpus, tmp_path, monkeypatch):
        zip_folder(corpus / "noisy_testset_wav")
        elsewhere = corpus.parent / "server"
        elsewhere.mkdir()
        (corpus / "noisy_testset_wav.zip").rename(elsewhere / "noisy_testset_wav.zip")

        def fetch(zips, folder, source_url):
            assert source_url is None
            for wanted in zips:
                shutil.copy(elsewhere / wanted.name, folder)
            fetched.extend(wanted.name for wanted in zips)

        fetched: list[str] = []
        monkeypatch.setattr(vctk_noisy, "fetch_zips", fetch)
        prepare_vctk_noisy(corpus, tmp_path / "data", download=True)
        assert fetched == ["noisy_testset_wav.zip"]


class TestDeviations:
    def spoil(self, corpus):
        """One deviation of each kind; returns what the list must say of which file."""
        noisy, clean = corpus / "noisy_trainset_28spk_wav", corpus / "clean_trainset_28spk_wav"
        signal = soundfile.read(noisy / "p226_001.wav")[0]
        (clean / "p226_001.wav").unlink()
        soundfile.write(noisy / "p226_002.wav", signal[:-9], RATE)
        soundfile.write(clean / "p287_001.wav", 0 * signal, RATE)
        (noisy / "p287_002.wav").write_bytes(b"no audio")
        for folder, heard in ((noisy, signal), (clean, np.roll(signal, 500))):
            soundfile.write(folder / "p228_001.wav", heard[::3], 16000)
            soundfile.write(folder / "p228_002.wav", np.stack([heard, heard], 1), RATE)
            soundfile.write(folder / "extra.wav", heard, RATE)
        shutil.copy(clean / "p230_002.wav", noisy)
        soundfile.write(noisy / "p230_001.wav", np.clip(50 * signal, -1, 1), RATE)
        shutil.copy(noisy / "p226_001.wav", clean / "p230_001.wav")
        return {
            "noisy_trainset_28spk_wav/p226_001.wav": f"is missing in {clean}",
            "noisy_trainset_28spk_wav/p226_002.wav": "samples, its reference",
            "clean_trainset_28spk_wav/p287_001.wav": "is silent",
            "noisy_trainset_28spk_wav/p287_002.wav": "is not readable audio",
            "noisy_trainset_28spk_wav/p228_001.wav": "has 16000 Hz, the corpus 48000 Hz",
            "noisy_trainset_28spk_wav/p228_002.wav": "has 2 channels, the corpus one",
            "noisy_trainset_28spk_wav/extra.wav": "is named unlike the corpus' files",
            "noisy_trainset_28spk_wav": "3 usable pairs, the corpus has 8",
            "noisy_trainset_28spk_wav/p230_002.wav": "is the same as its reference",
            "noisy_trainset_28spk_wav/p230_001.wav": "(used)",
        }

    def test_each_is_listed_by_file_in_one_list(self, corpus, tmp_path):
        expected = self.spoil(corpus)
        with pytest.raises(
            ValueError, match="deviations.txt lists every problem.*allow_incomplete"
        ):
            prepare_vctk_noisy(corpus, tmp_path / "data")
        lines = (tmp_path / "data" / "deviations.txt").read_text().splitlines()
        for file, text in expected.items():
            assert any(f"{file}: " in line and text in line for line in lines), (file, text, lines)
        assert not (tmp_path / "data" / "train").exists()

    def test_broken_pairs_are_left_out_if_an_incomplete_corpus_is_allowed(self, corpus, tmp_path):
        self.spoil(corpus)
        prepare_vctk_noisy(corpus, tmp_path, split="papers", allow_incomplete=True)
        kept = list(read_data_dir(tmp_path / "train").mixture)
        assert kept == ["p228_001", "p228_002", "p230_001"]

    def test_a_missing_speaker_is_a_deviation(self, corpus, tmp_path):
        for folder in corpus.glob("*_testset_wav"):
            for path in folder.glob("p257_*"):
                path.unlink()
        with pytest.raises(ValueError, match="1 speakers, the corpus has 2"):
            prepare_vctk_noisy(corpus, tmp_path)

    def test_clipping_alone_is_no_reason_to_stop(self, corpus, tmp_path):
        path = corpus / "noisy_testset_wav" / "p232_001.wav"
        signal = soundfile.read(path)[0]
        soundfile.write(path, np.clip(20 * signal, -1, 1), RATE)
        prepare_vctk_noisy(corpus, tmp_path)
        [line] = (tmp_path / "deviations.txt").read_text().splitlines()
        assert line.startswith(f"{path}: (used)")
        assert "p232_001" in read_data_dir(tmp_path / "test").mixture


class TestRerun:
    def test_nothing_is_read_again(self, tree, tmp_path, monkeypatch):
        prepare_vctk_noisy(tree, tmp_path)
        monkeypatch.setattr(vctk_noisy, "inspect_pair", None)
        prepare_vctk_noisy(tree, tmp_path)

    def test_after_a_kill_before_the_end_everything_is_made(self, tree, tmp_path, monkeypatch):
        def killed(path, data):
            if path.name == "valid":
                raise KeyboardInterrupt
            write(path, data)

        write = vctk_noisy.write_data_dir
        monkeypatch.setattr(vctk_noisy, "write_data_dir", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_vctk_noisy(tree, tmp_path)
        monkeypatch.setattr(vctk_noisy, "write_data_dir", write)
        prepare_vctk_noisy(tree, tmp_path)
        assert set(speakers(tmp_path)) == set(vctk_noisy.SPLITS)

    def test_another_split_replaces_the_sets(self, tree, tmp_path):
        prepare_vctk_noisy(tree, tmp_path)
        prepare_vctk_noisy(tree, tmp_path, split="papers")
        assert len(speakers(tmp_path)["train"]) == 4

    def test_a_changed_file_is_noticed(self, corpus, tmp_path):
        prepare_vctk_noisy(corpus, tmp_path)
        (corpus / "noisy_testset_wav" / "p232_001.wav").write_bytes(b"no audio")
        with pytest.raises(ValueError, match="p232_001.wav: is not readable audio"):
            prepare_vctk_noisy(corpus, tmp_path)


def test_the_totals_are_those_of_the_corpus():
    assert [(part.utterances, part.speakers) for part in PARTS.values()] == [(11572, 28), (824, 2)]
