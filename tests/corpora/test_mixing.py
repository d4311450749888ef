"""Levels, trimming, looping and mixing: the numbers are exact."""

import numpy as np
import pytest

from espnet2_tfckd.corpora.mixing import (
    active_power,
    in_room,
    loop_excerpt,
    mix_at_snr,
    nearer,
    trim,
)
from tests.corpora.mini_packages import RATE, room_response, speech_like


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.5])
def test_snr_and_level_are_exact(snr):
    speech, noise = speech_like(2, 1), np.random.default_rng(2).standard_normal(2 * RATE)
    mixture, reference, gain = mix_at_snr(speech, noise, snr, -30.0, RATE)
    power = active_power(reference, RATE)
    assert gain == 1.0
    assert 10 * np.log10(power) == pytest.approx(-30.0, abs=1e-6)
    noise_power = ((mixture - reference) ** 2).mean()
    assert 10 * np.log10(power / noise_power) == pytest.approx(snr, abs=1e-6)


def test_gain_keeps_the_peak_and_the_snr():
    speech, noise = speech_like(2, 1), np.random.default_rng(2).standard_normal(2 * RATE)
    mixture, reference, gain = mix_at_snr(speech, noise, -5.0, -6.0, RATE)
    assert gain < 1
    assert max(np.abs(mixture).max(), np.abs(reference).max()) == pytest.approx(0.97)
    ratio = active_power(reference, RATE) / ((mixture - reference) ** 2).mean()
    assert 10 * np.log10(ratio) == pytest.approx(-5.0, abs=1e-6)


def test_pauses_do_not_count_as_speech_level():
    speech = np.random.default_rng(0).standard_normal(RATE) * 0.1
    with_pause = np.concatenate([speech, np.zeros(3 * RATE)])
    assert active_power(with_pause, RATE) == pytest.approx(active_power(speech, RATE))


def test_trim_leaves_60_ms_around_speech():
    speech = np.random.default_rng(0).standard_normal(RATE) * 0.1
    padded = np.concatenate([np.zeros(RATE), speech, np.zeros(RATE)])
    assert len(trim(padded, RATE)) == RATE + 2 * 960


def test_looping_makes_no_click_and_keeps_the_power():
    time = np.arange(RATE // 2) / RATE
    hum = np.sin(2 * np.pi * 100.5 * time)  # does not fit its own start
    looped = loop_excerpt(hum, 5 * RATE, RATE, np.random.default_rng(0))
    assert len(looped) == 5 * RATE
    assert np.abs(np.diff(looped)).max() < 1.5 * np.abs(np.diff(hum)).max()


def test_a_long_recording_is_cut_not_looped():
    recording = np.arange(1000.0)
    excerpt = loop_excerpt(recording, 100, RATE, np.random.default_rng(0))
    np.testing.assert_array_equal(np.diff(excerpt), 1)


def test_silence_and_unequal_lengths_are_refused():
    speech = speech_like(1, 0)
    with pytest.raises(ValueError, match="noise is silent"):
        mix_at_snr(speech, np.zeros(RATE), 0, -30, RATE)
    with pytest.raises(ValueError, match="no active level"):
        mix_at_snr(np.zeros(RATE), speech, 0, -30, RATE)
    with pytest.raises(ValueError, match="16000 samples and noise 5"):
        mix_at_snr(speech, np.ones(5), 0, -30, RATE)


def test_a_nearer_talker_has_the_same_direct_sound_and_less_reverberation():
    response = room_response()
    near = nearer(response, 5.0, 0.5, RATE)
    direct = int(response.argmax())
    assert near[direct] == response[direct] and len(near) == RATE // 2
    tail = slice(direct + 100, direct + 3000)
    assert near[tail] == pytest.approx(response[tail] / 5)
    assert near[-1] == 0


def test_in_a_room_speech_keeps_its_place():
    speech = speech_like(1, 1)
    heard = in_room(speech, np.append(np.zeros(300), [1.0]))
    assert heard == pytest.approx(speech)
    near = in_room(speech, nearer(room_response(), 20.0, 0.5, RATE))
    assert np.corrcoef(near, speech)[0, 1] > 0.8
