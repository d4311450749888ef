"""What a result was made of: what counts as a change, and what does not."""

import os
import shutil
from pathlib import Path

import pytest

from espnet2_tfckd.data import freshness
from espnet2_tfckd.data.freshness import (
    change,
    changes,
    content_digest,
    file_state,
    made_of,
    read_record,
    write_record,
)


@pytest.fixture
def files(tmp_path):
    """Three files that have not been touched for a while."""
    paths = {name: tmp_path / f"{name}.wav" for name in "abc"}
    for name, path in paths.items():
        path.write_bytes(name.encode() * 1000)
    return paths


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once, as files of minutes ago do."""
    monkeypatch.setattr(freshness, "_RACY_SECONDS", -10.0)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files whose contents are read."""
    names, original = [], open

    def counting(path, *args, **kwargs):
        names.append(Path(path).name)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(freshness, "open", counting, raising=False)
    return names


class TestFiles:
    def test_other_contents_of_the_same_size_and_date_are_noticed(self, files, settled):
        before = made_of(files)
        times = os.stat(files["b"])
        files["b"].write_bytes(b"B" * 1000)
        os.utime(files["b"], ns=(times.st_atime_ns, times.st_mtime_ns))
        assert change(before, made_of(files, before=before)) == "b was changed"

    def test_a_file_put_in_its_place_with_the_same_size_and_date_is_noticed(
        self, files, settled, tmp_path
    ):
        before = made_of(files)
        times = os.stat(files["b"])
        other = tmp_path / "other.wav"
        other.write_bytes(b"B" * 1000)
        os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
        os.replace(other, files["b"])
        assert change(before, made_of(files, before=before)) == "b was changed"

    def test_a_change_just_after_the_digest_is_noticed(self, files):
        """Even where the clock of the file system were too coarse to tell the two apart."""
        before = made_of(files)
        assert before["files"]["a"][1:] == [0, 0, 0, 0]  # never trusted without reading
        files["a"].write_bytes(b"A" * 1000)
        assert change(before, made_of(files, before=before)) == "a was changed"

    def test_untouched_files_are_not_read_again(self, files, settled, reads):
        before = made_of(files)
        assert sorted(reads) == ["a.wav", "b.wav", "c.wav"]
        os.utime(files["c"], (0, 0))
        reads.clear()
        assert change(before, made_of(files, before=before)) is None
        assert reads == ["c.wav"]

    def test_where_a_file_lies_does_not_count(self, files, settled, tmp_path):
        before = made_of(files)
        shutil.copytree(tmp_path, tmp_path.with_name("moved"))
        moved = {name: tmp_path.with_name("moved") / path.name for name, path in files.items()}
        assert change(before, made_of(moved, before=before)) is None

    def test_files_that_come_and_go_are_named(self, files):
        before = made_of(files)
        after = {"a": files["a"], "d": files["b"], "e": files["c"]}
        assert changes(before, made_of(after)) == [
            "2 files were added (such as d)",
            "2 files were removed (such as b)",
        ]

    def test_all_missing_files_are_listed(self, files, tmp_path):
        files["c"].unlink()
        with pytest.raises(ValueError, match="2 problems") as error:
            made_of({**files, "d": tmp_path / "d.wav"})
        assert "c: " in str(error.value) and "d.wav cannot be read" in str(error.value)

    def test_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(ValueError, match="x: .* cannot be read"):
            made_of({"x": tmp_path})

    def test_the_content_digest_is_that_of_the_chosen_files(self, files):
        before = content_digest(made_of(files), "a")
        files["b"].write_bytes(b"B")
        assert content_digest(made_of(files), "a") == before
        files["a"].write_bytes(b"A")
        assert content_digest(made_of(files), "a") != before

    def test_a_state_without_times_is_read_again(self, files, settled):
        digest, *_ = file_state(files["a"])
        assert file_state(files["a"], [digest, 0, 0, 0, 0])[0] == digest
        assert file_state(files["a"], ["wrong", 0, 0, 0, 0])[0] == digest


class TestOptions:
    def test_short_values_are_shown_and_long_ones_named(self):
        before = made_of(options={"fs": 16000, "lr": 0.1, "table": "a" * 40})
        now = made_of(options={"fs": 8000, "lr": 0.1, "table": "b" * 40})
        assert changes(before, now) == ["fs was 16000, is 8000", "table changed"]

    def test_an_option_that_comes_or_goes_is_a_change(self):
        assert change(made_of(options={}), made_of(options={"fs": 8000})) == "fs was None, is 8000"
        assert change(made_of(options={"fs": 8000}), made_of()) == "fs was 8000, is None"

    def test_tuples_and_lists_are_the_same(self):
        assert change(made_of(options={"r": [1, 2]}), made_of(options={"r": (1, 2)})) is None

    def test_code_counts(self):
        assert change(made_of(code={"mixing": 1}), made_of(code={"mixing": 2}))

    def test_many_reasons_are_counted(self):
        now = made_of(options={str(n): n for n in range(9)})
        assert change(made_of(), now).endswith("; 6 more changes")


class TestRecord:
    def test_it_gives_back_what_was_written(self, files, tmp_path):
        made = made_of(files, {"range": (1, 2), "none": None})
        write_record(tmp_path / "sub" / "made_of.json", made)
        assert read_record(tmp_path / "sub" / "made_of.json") == made

    @pytest.mark.parametrize("text", [None, "", "{", "[]", "3", "{}", '{"files": {}}', "\x00"])
    def test_what_cannot_be_read_counts_as_not_made(self, tmp_path, text):
        record = tmp_path / "made_of.json"
        if text is not None:
            record.write_text(text)
        assert read_record(record) is None
        assert change(read_record(record), made_of()) == "not made yet"
