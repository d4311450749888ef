"""The mini corpus: pools of speech and noise, source tables, own folders, real packages."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.cli import run_command
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
from espnet2_tfckd.data.datadir import read_data_dir

RATE = 16000
SPLITS = ("train", "valid", "test")
TAKES = [(3.2, "wav", 16000), (4.0, "flac", 48000), (9.0, "wav", 16000), (1.7, "ogg", 22050)]
SMALL = {"train_utts": 6, "valid_utts": 2, "test_utts": 4}


def speech_like(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """Noise that swells and fades like syllables, four a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    return 0.3 * rng.standard_normal(len(time)) * np.sin(2 * np.pi * 2 * time) ** 2 * 0.5


@pytest.fixture(scope="module")
def own_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    for number, split in enumerate(SPLITS):
        for speaker in ("ann", "bob"):
            folder = root / "speech" / split / speaker
            folder.mkdir(parents=True)
            for take, (seconds, suffix, rate) in enumerate(TAKES):
                signal = speech_like(seconds, 10 * number + take, rate)
                soundfile.write(folder / f"take{take}.{suffix}", signal, rate)
        noise = root / "noise" / split
        noise.mkdir(parents=True)
        soundfile.write(noise / "hum.wav", speech_like(0.7, 90 + number), RATE)
        soundfile.write(noise / "fan.flac", speech_like(6.0, 95 + number, 32000), 32000)
    return {"speech_dir": root / "speech", "noise_dir": root / "noise"}


@pytest.fixture(scope="module")
def prepared(own_folders, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    prepare_mini(root / "c", root / "d", **SMALL, **own_folders)
    return root


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

    def test_clips_last_2_to_6_and_a_half_seconds(self, own_folders):
        files = sorted((own_folders["speech_dir"] / "train" / "ann").iterdir())
        clips = list(speech_clips(files * 5, np.random.default_rng(0)))
        seconds = [len(clip) / RATE for clip, _ in clips]
        assert min(seconds) >= 2 and max(seconds) <= 6.5
        assert any(len(names) > 1 for _, names in clips)  # short ones were joined

    def test_without_joining_a_clip_is_one_whole_recording(self, own_folders):
        files = sorted((own_folders["speech_dir"] / "train" / "ann").iterdir())
        clips = list(speech_clips(files, np.random.default_rng(0), join=False))
        assert sorted(names[0].name for _, names in clips) == ["take0.wav", "take1.flac"]

    def test_sound_by_title_in_an_opensfx_archive(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", speech_like(0.5, 1), RATE)
        sound, title = (tmp_path / "a.wav").read_bytes(), b'"Heavy wind". By nobody\0'
        entry = bytes([len(title)]) + title + sound
        header = (8).to_bytes(4, "little") + len(sound).to_bytes(4, "little")
        (tmp_path / "opensfx.cat").write_bytes(header + entry)
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


class TestOwnFolders:
    def test_sets_have_the_sizes_asked_for_and_every_speaker(self, prepared):
        for split, count in zip(SPLITS, SMALL.values(), strict=True):
            data = read_data_dir(prepared / "d" / split)
            assert len(data) == count
            assert set(data.speaker.values()) == {"ann", "bob"}

    def test_files_agree_with_the_metadata(self, prepared):
        data = read_data_dir(prepared / "d" / "train")
        for utterance, row in data.metadata.items():
            mixture, rate = soundfile.read(data.mixture[utterance])
            reference, _ = soundfile.read(data.reference[utterance])
            assert rate == RATE
            assert len(mixture) / RATE == pytest.approx(float(row["seconds"]), abs=1e-3)
            ratio = active_power(reference, RATE) / ((mixture - reference) ** 2).mean()
            assert 10 * np.log10(ratio) == pytest.approx(float(row["snr_db"]), abs=0.1)
            assert row["noise"] in {"hum", "fan"}
            assert row["sources"].startswith(f"train/{row['speaker']}/take")

    def test_test_set_has_four_fixed_snrs(self, prepared):
        rows = read_data_dir(prepared / "d" / "test").metadata.values()
        assert {float(row["snr_db"]) for row in rows} <= set(mini.TEST_SNRS)

    def test_same_to_the_byte_with_any_number_of_threads(self, prepared, own_folders):
        before = contents(prepared)
        shutil.rmtree(prepared / "d")
        prepare_mini(prepared / "c", prepared / "d", **SMALL, **own_folders, nj=3)
        assert contents(prepared) == before

    def test_fewer_utterances_are_a_subset(self, prepared, own_folders, tmp_path):
        fewer = {"train_utts": 4, "valid_utts": 2, "test_utts": 2}
        prepare_mini(tmp_path / "c", tmp_path / "d", **fewer, **own_folders)
        small, large = contents(tmp_path / "d" / "audio"), contents(prepared / "d" / "audio")
        assert len(small) > 16 and small.items() <= large.items()

    def test_two_data_directories_share_no_audio(self, own_folders, tmp_path):
        prepare_mini(tmp_path / "c", tmp_path / "d1", **SMALL, **own_folders)
        before = contents(tmp_path / "d1")
        prepare_mini(tmp_path / "c", tmp_path / "d2", **SMALL, **own_folders, seed=2)
        assert contents(tmp_path / "d1") == before
        entries = [read_data_dir(tmp_path / d / "train").mixture.values() for d in ("d1", "d2")]
        assert not set(entries[0]) & set(entries[1])

    def test_a_recording_replaced_by_one_of_the_same_size_and_date_is_mixed_anew(
        self, own_folders, tmp_path, capsys
    ):
        copies = {
            name: shutil.copytree(path, tmp_path / name) for name, path in own_folders.items()
        }
        prepare_mini(tmp_path / "c", tmp_path / "d", **SMALL, **copies)
        before = contents(tmp_path / "d" / "audio" / "train")
        path = copies["noise_dir"] / "train" / "hum.wav"
        times = path.stat()
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, samples[::-1], rate)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_size == times.st_size
        prepare_mini(tmp_path / "c", tmp_path / "d", **SMALL, **copies)
        assert "made again: " in capsys.readouterr().out
        assert contents(tmp_path / "d" / "audio" / "train") != before

    def test_a_data_directory_of_somebody_else_is_not_overwritten(self, own_folders, tmp_path):
        prepare_mini(tmp_path / "c", tmp_path / "d", **SMALL, **own_folders)
        (tmp_path / "d" / "made_of.json").unlink()
        (tmp_path / "d" / "test" / ".made_by_espnet2_tfckd").unlink()
        before = contents(tmp_path / "d")
        with pytest.raises(ValueError, match="stage 1 did not write .* give another --datadir"):
            prepare_mini(tmp_path / "c", tmp_path / "d", **SMALL, **own_folders)
        assert contents(tmp_path / "d") == before

    def test_rerun_returns_at_once_and_other_options_rebuild(self, own_folders, tmp_path):
        def prepare(**options):
            prepare_mini(tmp_path / "c", tmp_path / "d", **{**SMALL, **options}, **own_folders)
            return contents(tmp_path / "d" / "audio"), os.stat(
                tmp_path / "d/train/wav.scp"
            ).st_mtime_ns

        first = prepare()
        assert prepare() == first
        assert prepare(seed=2)[0] != first[0]
        assert len(read_data_dir(tmp_path / "d" / "train")) == 6
        prepare(train_utts=2)
        assert len(read_data_dir(tmp_path / "d" / "train")) == 2
        assert len(list((tmp_path / "d/audio/train/mixture").iterdir())) == 2

    def test_an_interrupted_run_is_made_good(self, own_folders, tmp_path, monkeypatch):
        def fail(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(mini, "write_data_dir", fail)
            with pytest.raises(KeyboardInterrupt):
                prepare_mini(tmp_path / "c", tmp_path / "d", **SMALL, **own_folders)
        prepare_mini(tmp_path / "c", tmp_path / "d", **SMALL, **own_folders)
        (tmp_path / "d/audio/test/mixture/ann-test0000.wav").unlink()
        prepare_mini(tmp_path / "c", tmp_path / "d", **SMALL, **own_folders)
        assert (tmp_path / "d/audio/test/mixture/ann-test0000.wav").exists()

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"noise_dir": None}, "go together"),
            ({"train_utts": 0}, "--train_utts must be at least 1"),
            ({"seed": -1}, "--seed must not be negative"),
            ({"nj": 0}, "--nj must be at least 1"),
            ({"source_dir": "x"}, "--source_dir is for packages"),
        ],
    )
    def test_options_that_make_no_sense(self, own_folders, tmp_path, options, complaint):
        with pytest.raises(ValueError, match=complaint):
            prepare_mini(tmp_path / "c", tmp_path / "d", **{**own_folders, **options})

    def test_folders_that_hold_nothing_usable(self, own_folders, tmp_path):
        speech, noise = tmp_path / "speech", tmp_path / "noise"
        options = {"speech_dir": speech, "noise_dir": noise}
        with pytest.raises(FileNotFoundError, match="speech is not a folder"):
            prepare_mini(tmp_path / "c", tmp_path / "d", **options)
        shutil.copytree(own_folders["noise_dir"], noise)
        (speech / "train").mkdir(parents=True)
        with pytest.raises(ValueError, match="holds no speaker"):
            prepare_mini(tmp_path / "c", tmp_path / "d", **options)
        (speech / "train" / "ann").mkdir()
        soundfile.write(speech / "train" / "ann" / "a.wav", speech_like(3, 0, 8000), 8000)
        with pytest.raises(ValueError, match="holds no audio of 16000 Hz or more"):
            prepare_mini(tmp_path / "c", tmp_path / "d", **options)
        soundfile.write(speech / "train" / "ann" / "b.wav", np.zeros(3 * RATE), RATE)
        with pytest.raises(ValueError, match="speaker ann .* has no usable speech"):
            prepare_mini(tmp_path / "c", tmp_path / "d", **options)
        soundfile.write(noise / "train" / "hum.wav", np.zeros(RATE), RATE)
        with pytest.raises(ValueError, match="hum.wav is silent"):
            prepare_mini(tmp_path / "c", tmp_path / "d", **options)

    @pytest.mark.parametrize("data_dir", ["speech/x", "speech/train/ann/..", "."])
    def test_own_recordings_are_not_written_into(self, own_folders, tmp_path, data_dir):
        speech = tmp_path / ("audio" if data_dir == "." else "speech")
        shutil.copytree(own_folders["speech_dir"], speech)
        own = {**own_folders, "speech_dir": speech}
        before = contents(tmp_path)
        with pytest.raises(ValueError, match="audio (is|lies in) the input"):
            prepare_mini(tmp_path / "c", tmp_path / data_dir, **SMALL, **own)
        assert contents(tmp_path) == before

    def test_files_of_others_in_its_place_are_kept(self, own_folders, tmp_path):
        mine = tmp_path / "d" / "audio" / "train" / "mine.txt"
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        with pytest.raises(ValueError, match="train holds files that this command did not write"):
            prepare_mini(tmp_path / "c", tmp_path / "d", **SMALL, **own_folders)
        assert mine.read_text() == "mine"

    def test_own_recordings_may_have_any_format_and_hidden_neighbours(self, own_folders, tmp_path):
        shutil.copytree(own_folders["speech_dir"], tmp_path / "speech")
        speech = tmp_path / "speech" / "train" / "ann"
        before = prepare_mini(tmp_path / "c", tmp_path / "d", **SMALL, **own_folders)
        (speech / "._take0.wav").write_bytes(b"\0\5\x16\7")
        (speech / ".take0.5.partial.wav").write_bytes(b"RIFF")
        own = {**own_folders, "speech_dir": tmp_path / "speech"}
        prepare_mini(tmp_path / "c2", tmp_path / "d2", **SMALL, **own)
        assert before is None
        assert contents(tmp_path / "d" / "audio") == contents(tmp_path / "d2" / "audio")
        signal = speech_like(5, 7)
        soundfile.write(speech / "more.mp3", signal, RATE)
        prepare_mini(tmp_path / "c3", tmp_path / "d3", **{**SMALL, "train_utts": 30}, **own)
        rows = read_data_dir(tmp_path / "d3" / "train").metadata.values()
        assert any("more.mp3" in row["sources"] for row in rows)

    def test_command_line(self, own_folders, tmp_path, capsys, monkeypatch):
        sizes = [part for name, count in SMALL.items() for part in (f"--{name}", str(count))]
        folders = [part for name, path in own_folders.items() for part in (f"--{name}", str(path))]
        places = ["--corpus_dir", str(tmp_path / "c"), "--data_dir", str(tmp_path / "d")]
        mini.main([*sizes, *folders, *places])
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"data directories: {tmp_path / 'd'}/{{train,valid,test}}"
        monkeypatch.setattr("sys.argv", ["mini", "--speech_dir", "x"])
        with pytest.raises(SystemExit) as stop:
            run_command(mini.main)
        assert stop.value.code == 1


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
