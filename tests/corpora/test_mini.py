"""The mini corpus: pools of speech and noise, tables, packages made up and real."""

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.corpora import mini, mini_sources
from espnet2_tfckd.corpora.mini import prepare_mini, share_out
from espnet2_tfckd.corpora.mini_sources import PACKAGES, RECORDINGS, SPEAKERS
from espnet2_tfckd.corpora.mixing import active_power
from espnet2_tfckd.corpora.pools import (
    NoisePool,
    continuous_talk,
    read_mono,
    read_opensfx,
    speech_clips,
)
from espnet2_tfckd.corpora.preparation import SPLITS
from espnet2_tfckd.data.datadir import read_data_dir
from tests.corpora.mini_packages import RATE, TAKES, opensfx, speech_like, write_packages

SMALL = {"train_utts": 6, "valid_utts": 2, "test_utts": 4}


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """Recordings of one speaker."""
    folder = tmp_path_factory.mktemp("ann")
    for number, seconds in enumerate(TAKES):
        soundfile.write(folder / f"take{number}.wav", speech_like(seconds, number), RATE)
    return sorted(folder.iterdir())


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


class TestPools:
    def test_noise_has_unit_power_and_its_kind_is_known(self):
        talkers, strokes = [speech_like(4, 1), speech_like(4, 2)], [speech_like(0.05, 3)]
        shares = dict.fromkeys(("ambient", "babble", "speech_shaped", "typing"), 1.0)
        pool = NoisePool({"ambient": {"fan": speech_like(3, 4)}}, shares, talkers, strokes)
        rng, kinds = np.random.default_rng(0), Counter()
        for _ in range(40):
            noise, kind, _name = pool.draw(RATE, rng)
            kinds[kind] += 1
            assert len(noise) == RATE
            assert (noise**2).mean() == pytest.approx(1)
        assert set(kinds) == set(shares)

    def test_clips_last_2_to_6_and_a_half_seconds(self, takes):
        clips = list(speech_clips(takes * 5, np.random.default_rng(0)))
        seconds = [len(clip) / RATE for clip, _ in clips]
        assert min(seconds) >= 2 and max(seconds) <= 6.5
        assert any(len(names) > 1 for _, names in clips)  # short ones were joined

    def test_without_joining_a_clip_is_one_whole_recording(self, takes):
        clips = list(speech_clips(takes, np.random.default_rng(0), join=False))
        assert sorted(names[0].name for _, names in clips) == ["take0.wav", "take1.wav"]

    def test_sound_by_title_in_an_opensfx_archive(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", speech_like(0.5, 1), RATE)
        sounds = {"Heavy wind": (tmp_path / "a.wav").read_bytes()}
        (tmp_path / "opensfx.cat").write_bytes(opensfx(sounds))
        assert len(read_opensfx(tmp_path / "opensfx.cat", "Heavy wind")) == RATE // 2
        with pytest.raises(ValueError, match='no sound titled "Jackhammer"'):
            read_opensfx(tmp_path / "opensfx.cat", "Jackhammer")

    def test_a_click_at_the_very_end_of_silence_is_no_speech(self, tmp_path):
        """The last part of a frame does not count as active, so that there is no level."""
        signal = np.zeros(2 * RATE + 100)
        signal[-50] = 0.5
        soundfile.write(tmp_path / "a.wav", signal, RATE)
        assert not list(speech_clips([tmp_path / "a.wav"], np.random.default_rng(0)))

    def test_background_talk_without_recordings_is_named(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
        with pytest.raises(ValueError, match=f"{tmp_path}: no recording is long and loud enough"):
            continuous_talk([tmp_path / "a.wav"], np.random.default_rng(0))

    def test_damaged_recordings_are_named(self, tmp_path):
        soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, "FLOAT")
        (tmp_path / "bad.wav").write_bytes(b"no audio")
        (tmp_path / "bad.opus").write_bytes(b"no audio")
        for name in ("nan.wav", "bad.wav", "bad.opus"):
            with pytest.raises(ValueError, match=f"{name} .*replace or remove it"):
                read_mono(tmp_path / name)


class TestTables:
    def test_every_row_names_a_known_package_and_split(self):
        packages = {package.name for package in PACKAGES}
        for row in (*SPEAKERS, *RECORDINGS):
            assert row.package in packages
            assert row.split in SPLITS

    def test_seven_two_and_two_speakers_none_of_them_twice(self):
        assert Counter(row.split for row in SPEAKERS) == {"train": 7, "valid": 2, "test": 2}
        assert len({row.name for row in SPEAKERS}) == len(SPEAKERS)

    def test_no_recording_is_in_two_splits(self):
        for rows in (SPEAKERS, RECORDINGS):
            places = Counter((row.package, row.pattern) for row in rows)
            assert max(places.values()) == 1

    def test_background_talkers_are_no_target_speakers(self):
        targets = {(row.package, row.pattern) for row in SPEAKERS}
        talkers = {(r.package, r.pattern) for r in RECORDINGS if r.kind == "babble"}
        assert not targets & talkers

    def test_every_kind_that_is_drawn_has_recordings(self):
        for split, shares in mini_sources.KIND_SHARES.items():
            assert sum(shares.values()) == pytest.approx(1)
            kinds = {row.kind for row in RECORDINGS if row.split == split}
            assert set(shares) - {"speech_shaped"} == kinds

    def test_every_package_has_licence_and_credit(self):
        assert all(package.licence and package.credit for package in PACKAGES)


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
