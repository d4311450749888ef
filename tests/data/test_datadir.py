"""Data directories: round trip, every way to break the contract, audio entries."""

import kaldiio
import numpy as np
import pytest
import soundfile

from espnet2_tfckd.data.datadir import DataDir, read_data_dir, write_data_dir
from espnet2_tfckd.data.entries import entry_seconds, read_entry


def two_utterances() -> DataDir:
    return DataDir(
        mixture={"bob-2": "b.wav", "ann-1": "a file.wav"},
        reference={"bob-2": "b_clean.wav", "ann-1": "a_clean.wav"},
        speaker={"bob-2": "bob", "ann-1": "ann"},
        text={"ann-1": "good morning"},
        metadata={"bob-2": {"snr_db": "5", "noise": "a, b"}, "ann-1": {"snr_db": "0", "noise": ""}},
    )


@pytest.fixture
def folder(tmp_path):
    write_data_dir(tmp_path, two_utterances())
    return tmp_path


def test_round_trip_in_c_locale_order(folder):
    assert (folder / "wav.scp").read_text() == "ann-1 a file.wav\nbob-2 b.wav\n"
    assert (folder / "spk2utt").read_text() == "ann ann-1\nbob bob-2\n"
    assert (folder / "metadata.csv").read_text().splitlines()[0] == "id,snr_db,noise"
    assert read_data_dir(folder) == two_utterances()


def test_upper_case_sorts_before_lower_case_and_hyphen_before_underscore(tmp_path):
    ids = ["ab_c-1", "ab-1", "Zoe-1"]
    data = DataDir(*({u: v for u in ids} for v in ("x.wav", "y.wav")), {u: u[:-2] for u in ids})
    write_data_dir(tmp_path, data)
    assert list(read_data_dir(tmp_path).mixture) == ["Zoe-1", "ab-1", "ab_c-1"]


def test_subset_carries_every_table(folder):
    subset = read_data_dir(folder).subset(["ann-1"])
    assert len(subset) == 1
    assert all(list(table) == ["ann-1"] for table in vars(subset).values())


def test_one_that_is_the_same_already_is_not_touched(folder):
    def state():
        return {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    before = state()
    write_data_dir(folder, two_utterances())
    assert state() == before
    write_data_dir(folder, two_utterances().subset(["ann-1"]))
    assert len(read_data_dir(folder)) == 1


def test_rewriting_leaves_no_optional_file_of_before(folder):
    plain = two_utterances()
    plain.text, plain.metadata = {}, {}
    write_data_dir(folder, plain)
    assert not (folder / "text").exists()
    assert not (folder / "metadata.csv").exists()


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("wav.scp", "ann-1 a.wav\n", "bob-2 is in spk1.scp, not in wav.scp"),
        ("spk1.scp", "ann-1 a.wav\n", "bob-2 is in wav.scp, not in spk1.scp"),
        ("wav.scp", "bob-2 b.wav\nann-1 a.wav\n", "not in C-locale order"),
        ("wav.scp", "ann-1 a.wav\nann-1 b.wav\n", "line 2 repeats ann-1"),
        ("spk1.scp", "ann-1 a.wav\nbob-2\n", 'line 2 is not "id value"'),
        ("wav.scp", "", "lists no utterance"),
        ("utt2spk", "ann-1 ann\nbob-2 rob\n", "does not begin with its speaker id rob"),
        ("spk2utt", "ann ann-1\n", "spk2utt does not agree"),
        ("text", "eve-1 hello\n", "eve-1 is in text"),
        ("metadata.csv", "id,snr_db\nann-1,0\n", "bob-2 is in wav.scp, not in metadata.csv"),
        ("metadata.csv", "utt,snr_db\nann-1,0\n", "first column must be id"),
    ],
)
def test_broken_contract_is_named(folder, file, content, complaint):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=complaint):
        read_data_dir(folder)


def test_all_problems_in_one_error_and_the_rest_counted(folder):
    (folder / "spk1.scp").write_text("".join(f"eve-{n:02} x.wav\n" for n in range(20)))
    with pytest.raises(ValueError) as error:
        read_data_dir(folder)
    assert "22 problems found" in str(error.value)
    assert "... and 12 more" in str(error.value)


def test_bytes_that_are_no_text_are_reported(folder):
    (folder / "utt2spk").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="utt2spk is not UTF-8"):
        read_data_dir(folder)


def test_missing_files_are_all_named(folder):
    (folder / "spk1.scp").unlink()
    (folder / "utt2spk").unlink()
    with pytest.raises(FileNotFoundError, match="spk1.scp, utt2spk missing"):
        read_data_dir(folder)


def test_contents_that_break_the_contract_are_not_written(tmp_path):
    data = two_utterances()
    del data.reference["bob-2"]
    with pytest.raises(ValueError, match="not in spk1.scp"):
        write_data_dir(tmp_path / "new", data)
    assert not (tmp_path / "new").exists()


class TestAudio:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (800, 2)).astype(np.float32)

    def test_plain_file(self, tmp_path):
        path = str(tmp_path / "a.flac")
        soundfile.write(path, self.noise, 16000)
        samples, rate = read_entry(path)
        assert rate == 16000
        assert samples.dtype == np.float32
        np.testing.assert_allclose(samples, self.noise, atol=2**-15)
        assert entry_seconds(path) == pytest.approx(0.05)

    @pytest.mark.parametrize("function", ["soundfile", None])  # None is Kaldi's own wav in ark
    def test_ark_entry_has_the_same_scale(self, tmp_path, function):
        signal = self.noise if function else (self.noise * 32768).astype(np.int16)
        ark, scp = str(tmp_path / "a.ark"), str(tmp_path / "a.scp")
        kaldiio.save_ark(ark, {"ann-1": (8000, signal)}, scp=scp, write_function=function)
        entry = (tmp_path / "a.scp").read_text().split()[1]
        samples, rate = read_entry(entry)
        assert rate == 8000
        np.testing.assert_allclose(samples, self.noise, atol=2**-14)
        assert entry_seconds(entry) == pytest.approx(0.1)

    def test_missing_file_is_named(self, tmp_path):
        for entry in (f"{tmp_path}/no.wav", f"{tmp_path}/no.ark:5"):
            for read in (read_entry, entry_seconds):
                with pytest.raises(FileNotFoundError, match="no.(wav|ark:5) does not exist"):
                    read(entry)

    def test_damaged_file_is_named(self, tmp_path):
        for name, entry in (("bad.wav", "bad.wav"), ("bad.ark", "bad.ark:3")):
            (tmp_path / name).write_bytes(b"RIFFnonsense")
            for read in (read_entry, entry_seconds):
                with pytest.raises(ValueError, match="is not readable audio"):
                    read(f"{tmp_path}/{entry}")


@pytest.mark.parametrize("table", ["wav.scp", "spk1.scp", "text", "metadata.csv"])
def test_a_data_directory_of_somebody_else_is_not_overwritten(tmp_path, table):
    (tmp_path / table).write_text("my own\n")
    data = DataDir({"ann-1": "a.wav"}, {"ann-1": "b.wav"}, {"ann-1": "ann"})
    with pytest.raises(ValueError, match=f"{table} was not written by this recipe"):
        write_data_dir(tmp_path, data)
    assert [path.name for path in tmp_path.iterdir()] == [table]
    assert (tmp_path / table).read_text() == "my own\n"
    write_data_dir(tmp_path / "other", data)
    write_data_dir(tmp_path / "other", data)  # its own it may overwrite
