"""The mini corpus: tables, packages made up and real."""

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.corpora import mini
from espnet2_tfckd.corpora.mini import SOURCES, prepare_mini, share_out
from espnet2_tfckd.corpora.mini_sources import PACKAGES, RECORDINGS, SPEAKERS
from espnet2_tfckd.corpora.mixing import active_power
from espnet2_tfckd.corpora.preparation import SPLITS
from espnet2_tfckd.data.datadir import read_data_dir
from tests.corpora.mini_packages import RATE, write_packages

SMALL = {"train_utts": 6, "valid_utts": 2, "test_utts": 4}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Where made-up packages lie, and where they are unpacked to."""
    root = tmp_path_factory.mktemp("corpus")
    return {"source_dir": write_packages(root / "packages"), "corpus_dir": root / "downloads"}


@pytest.fixture(scope="module")
def prepare(places):
    """Function that makes small data directories of these packages."""
    return lambda data_dir, **options: prepare_mini(
        data_dir=data_dir, **{**SMALL, **options}, **places
    )


@pytest.fixture(scope="module")
def prepared(prepare, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("prepared") / "d"
    prepare(data_dir)
    return data_dir


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("tables", SOURCES.values(), ids=SOURCES)
class TestTables:
    def test_every_row_names_a_known_package_and_split(self, tables):
        packages = {package.name for package in tables.packages}
        assert len(packages) == len(tables.packages)
        for row in (*tables.speakers, *tables.recordings, *tables.rooms):
            assert row.package in packages
            assert row.split in tables.utterances

    def test_no_speaker_and_no_recording_has_two_rows(self, tables):
        assert len({row.name for row in tables.speakers}) == len(tables.speakers)
        for rows in (tables.speakers, tables.recordings):
            places = Counter((row.package, row.pattern) for row in rows)
            assert max(places.values()) == 1
        names = Counter((row.kind, row.name) for row in tables.recordings)
        assert max(names.values()) == 1

    def test_background_talkers_are_no_target_speakers(self, tables):
        targets = {(row.package, row.pattern) for row in tables.speakers}
        talkers = {(r.package, r.pattern) for r in tables.recordings if r.kind == "babble"}
        assert not targets & talkers

    def test_every_kind_that_is_drawn_has_recordings(self, tables):
        assert tables.kind_shares.keys() == tables.utterances.keys()
        for split, shares in tables.kind_shares.items():
            assert sum(shares.values()) == pytest.approx(1)
            kinds = {row.kind for row in tables.recordings if row.split == split}
            assert set(shares) - {"speech_shaped"} == kinds

    def test_every_package_has_licence_and_credit(self, tables):
        assert all(package.licence and package.credit for package in tables.packages)


def test_the_default_sources_have_seven_two_and_two_speakers():
    assert Counter(row.split for row in SPEAKERS) == {"train": 7, "valid": 2, "test": 2}


class TestMixing:
    def test_sets_have_the_sizes_asked_for_and_speakers_of_their_own(self, prepared):
        for split, count in SMALL.items():
            data = read_data_dir(prepared / split.removesuffix("_utts"))
            assert len(data) == count
            known = {row.name for row in SPEAKERS if split.startswith(row.split)}
            assert set(data.speaker.values()) <= known

    def test_files_agree_with_the_metadata(self, prepared):
        data = read_data_dir(prepared / "train")
        for utterance, row in data.metadata.items():
            mixture, rate = soundfile.read(data.mixture[utterance])
            reference, _ = soundfile.read(data.reference[utterance])
            assert rate == RATE
            assert len(mixture) / RATE == pytest.approx(float(row["seconds"]), abs=1e-3)
            ratio = active_power(reference, RATE) / ((mixture - reference) ** 2).mean()
            assert 10 * np.log10(ratio) == pytest.approx(float(row["snr_db"]), abs=0.1)
            assert re.search(r"take\d\.\w+$", row["sources"])

    def test_test_set_has_four_fixed_snrs_and_transcripts(self, prepared):
        data = read_data_dir(prepared / "test")
        assert {float(row["snr_db"]) for row in data.metadata.values()} <= set(mini.TEST_SNRS)
        assert set(data.text.values()) == {"words of take"}
        assert all(utterance.startswith("en_Allison-") for utterance in data.text)

    def test_same_to_the_byte_with_any_number_of_threads(self, prepare, prepared):
        before = contents(prepared)
        shutil.rmtree(prepared)
        prepare(prepared, nj=3)
        assert contents(prepared) == before

    def test_fewer_utterances_are_a_subset(self, prepare, prepared, tmp_path):
        prepare(tmp_path / "d", train_utts=4, test_utts=2)
        small, large = contents(tmp_path / "d" / "audio"), contents(prepared / "audio")
        assert len(small) > 16 and small.items() <= large.items()

    def test_two_data_directories_share_no_audio(self, prepare, prepared, tmp_path):
        before = contents(prepared)
        prepare(tmp_path / "d", seed=2)
        assert contents(prepared) == before
        entries = [
            read_data_dir(data / "train").mixture.values() for data in (prepared, tmp_path / "d")
        ]
        assert not set(entries[0]) & set(entries[1])

    def test_a_data_directory_of_somebody_else_is_not_overwritten(
        self, prepare, prepared, tmp_path
    ):
        shutil.copytree(prepared, tmp_path / "d")
        (tmp_path / "d" / "made_of.json").unlink()
        (tmp_path / "d" / "test" / ".made_by_espnet2_tfckd").unlink()
        before = contents(tmp_path / "d")
        with pytest.raises(ValueError, match="stage 1 did not write .* give another --datadir"):
            prepare(tmp_path / "d")
        assert contents(tmp_path / "d") == before

    def test_rerun_returns_at_once_and_other_options_rebuild(self, prepare, tmp_path):
        def state(**options):
            prepare(tmp_path / "d", **options)
            return contents(tmp_path / "d" / "audio"), os.stat(
                tmp_path / "d/train/wav.scp"
            ).st_mtime_ns

        first = state()
        assert state() == first
        assert state(seed=2)[0] != first[0]
        assert len(read_data_dir(tmp_path / "d" / "train")) == 6
        prepare(tmp_path / "d", train_utts=2)
        assert len(read_data_dir(tmp_path / "d" / "train")) == 2
        assert len(list((tmp_path / "d/audio/train/mixture").iterdir())) == 2

    def test_an_interrupted_run_is_made_good(self, prepare, tmp_path, monkeypatch):
        def fail(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(mini, "write_data_dir", fail)
            with pytest.raises(KeyboardInterrupt):
                prepare(tmp_path / "d")
        prepare(tmp_path / "d")
        lost = next((tmp_path / "d/audio/test/mixture").iterdir())
        lost.unlink()
        prepare(tmp_path / "d")
        assert lost.exists()

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"train_utts": 0}, "--train_utts must be at least 1"),
            ({"seed": -1}, "--seed must not be negative"),
            ({"nj": 0}, "--nj must be at least 1"),
        ],
    )
    def test_options_that_make_no_sense(self, tmp_path, options, complaint):
        with pytest.raises(ValueError, match=complaint):
            prepare_mini(tmp_path / "c", tmp_path / "d", **options)

    def test_files_of_others_in_its_place_are_kept(self, prepare, tmp_path):
        mine = tmp_path / "d" / "audio" / "train" / "mine.txt"
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        with pytest.raises(ValueError, match="train holds files that this command did not write"):
            prepare(tmp_path / "d")
        assert mine.read_text() == "mine"

    def test_command_line(self, places, tmp_path, capsys):
        options = {**SMALL, **places, "data_dir": tmp_path / "d"}
        mini.main([part for name, value in options.items() for part in (f"--{name}", str(value))])
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"data directories: {tmp_path / 'd'}/{{train,valid,test}}"


def test_utterances_are_shared_out_by_share_with_one_at_least():
    shares = {"a": 0.9, "b": 0.05, "c": 0.05}
    assert share_out(3, shares) == {"a": 1, "b": 1, "c": 1}
    assert share_out(20, shares) == {"a": 18, "b": 1, "c": 1}
    assert sum(share_out(2, shares).values()) == 2


@pytest.mark.skipif("MINI_SOURCE_DIR" not in os.environ, reason="needs the packages")
def test_real_packages(tmp_path):
    sizes = {"train_utts": 28, "valid_utts": 4, "test_utts": 12}
    source_dir = os.environ["MINI_SOURCE_DIR"]
    prepare_mini(tmp_path / "c", tmp_path / "d", **sizes, source_dir=source_dir)
    for split, count in zip(SPLITS, sizes.values(), strict=True):
        data = read_data_dir(tmp_path / "d" / split)
        assert len(data) == count
        assert set(data.speaker.values()) == {r.name for r in SPEAKERS if r.split == split}
        noises = {row["noise"] for row in data.metadata.values() if row["noise_kind"] == "machine"}
        assert noises <= {r.name for r in RECORDINGS if r.split == split}
    assert len(data.text) == 6
    assert all(utterance.startswith("en_Allison-") for utterance in data.text)
    credits_file = (tmp_path / "c" / "mini" / "CREDITS.md").read_text()
    assert all(package.name in credits_file for package in PACKAGES)
