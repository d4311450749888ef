"""Pools of speech and noise: clips, background talkers, recordings that cannot be used."""

from collections import Counter

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.corpora.pools import (
    NoisePool,
    continuous_talk,
    read_mono,
    read_opensfx,
    speech_clips,
)
from tests.corpora.mini_packages import RATE, TAKES, opensfx, speech_like


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """Recordings of one speaker."""
    folder = tmp_path_factory.mktemp("ann")
    for number, seconds in enumerate(TAKES):
        soundfile.write(folder / f"take{number}.wav", speech_like(seconds, number), RATE)
    return sorted(folder.iterdir())


def test_noise_has_unit_power_and_its_kind_is_known():
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


def test_clips_last_2_to_6_and_a_half_seconds(takes):
    clips = list(speech_clips(takes * 5, np.random.default_rng(0)))
    seconds = [len(clip) / RATE for clip, _ in clips]
    assert min(seconds) >= 2 and max(seconds) <= 6.5
    assert any(len(names) > 1 for _, names in clips)  # short ones were joined


def test_without_joining_a_clip_is_one_whole_recording(takes):
    clips = list(speech_clips(takes, np.random.default_rng(0), join=False))
    assert sorted(names[0].name for _, names in clips) == ["take0.wav", "take1.wav"]


def test_sound_by_title_in_an_opensfx_archive(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech_like(0.5, 1), RATE)
    sounds = {"Heavy wind": (tmp_path / "a.wav").read_bytes()}
    (tmp_path / "opensfx.cat").write_bytes(opensfx(sounds))
    assert len(read_opensfx(tmp_path / "opensfx.cat", "Heavy wind")) == RATE // 2
    with pytest.raises(ValueError, match='no sound titled "Jackhammer"'):
        read_opensfx(tmp_path / "opensfx.cat", "Jackhammer")


def test_a_click_at_the_very_end_of_silence_is_no_speech(tmp_path):
    """The last part of a frame does not count as active, so that there is no level."""
    signal = np.zeros(2 * RATE + 100)
    signal[-50] = 0.5
    soundfile.write(tmp_path / "a.wav", signal, RATE)
    assert not list(speech_clips([tmp_path / "a.wav"], np.random.default_rng(0)))


def test_background_talk_without_recordings_is_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    with pytest.raises(ValueError, match=f"{tmp_path}: no recording is long and loud enough"):
        continuous_talk([tmp_path / "a.wav"], np.random.default_rng(0))


def test_tidying_leaves_out_copies_and_rumble(tmp_path):
    time = np.arange(4 * RATE) / RATE
    voice = speech_like(4, 1)
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", voice + 0.3 * np.sin(2 * np.pi * 30 * time), RATE)
    files = sorted(tmp_path.iterdir())
    plain, tidy = (
        [clip for clip, _ in speech_clips(files, np.random.default_rng(0), tidy=tidy)]
        for tidy in (False, True)
    )
    assert (len(plain), len(tidy)) == (2, 1)
    rumble = [np.abs(np.fft.rfft(clip[:RATE]))[30] for clip in (plain[0], tidy[0])]
    assert rumble[1] < 0.2 * rumble[0]  # at 30 Hz


def test_of_many_talkers_all_are_heard():
    talkers = [np.full(RATE, 10.0**number) for number in range(12)]
    pool = NoisePool({}, {"babble": 1.0}, talkers)
    rng = np.random.default_rng(0)
    loudest = {round(np.log10(abs(pool._babble(9, rng, "")[0][0]))) for _ in range(60)}
    assert {9, 10, 11} <= loudest


def test_damaged_recordings_are_named(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, "FLOAT")
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    (tmp_path / "bad.opus").write_bytes(b"no audio")
    for name in ("nan.wav", "bad.wav", "bad.opus"):
        with pytest.raises(ValueError, match=f"{name} .*replace or remove it"):
            read_mono(tmp_path / name)
