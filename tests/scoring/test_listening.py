"""Choosing utterances to listen to, and turning them into sounds and pictures."""

import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from espnet2_tfckd.scoring.gains import gains_over, input_snrs, scatter_plot
from espnet2_tfckd.scoring.listening import extremes, listen, listen_in_turn
from espnet2_tfckd.scoring.spectrogram import RANGE_DB, spectrogram_db, spectrogram_png

RATE = 16000


def contents(uri, media_type):
    head, _, data = uri.partition(",")
    assert head == f"data:{media_type};base64"
    return io.BytesIO(base64.b64decode(data))


class TestGains:
    def test_only_what_scored_both_mixture_and_estimate_has_a_gain(self):
        mixture = {"a": {"stoi": 0.5, "si_sdr": None}, "b": {"stoi": 0.25}}
        estimates = {"a": {"stoi": 0.75, "si_sdr": 3.0}, "b": {"stoi": None}, "c": {"stoi": 1.0}}
        assert gains_over(mixture, estimates) == {"stoi": {"a": 0.25}}

    def test_fewer_word_errors_are_a_gain(self):
        assert gains_over({"a": {"wer": 0.5}}, {"a": {"wer": 0.75}})["wer"]["a"] == -0.25

    def test_input_snr_is_that_of_the_metadata(self):
        metadata = {"a": {"snr_db": "-2.5"}, "b": {"snr_db": ""}}
        assert input_snrs(metadata, {}) == ({"a": -2.5}, "SNR of the mixture (dB)")

    def test_without_metadata_the_mixture_s_si_sdr_is_taken(self):
        mixture = {"a": {"si_sdr": 4.0}, "b": {"si_sdr": None}, "c": {}}
        assert input_snrs({}, mixture) == ({"a": 4.0}, "SI-SDR of the mixture (dB)")

    def test_an_snr_that_is_no_number_is_refused_with_its_utterance(self):
        with pytest.raises(ValueError, match=r"metadata\.csv, b: snr_db: .*'loud'"):
            input_snrs({"a": {"snr_db": "1"}, "b": {"snr_db": "loud"}}, {})

    def test_the_plot_has_the_metrics_and_utterances_that_can_be_drawn(self):
        gains = {
            "one": {"stoi": {"a": 0.1, "b": 0.2}},
            "two": {"stoi": {"a": -0.3}, "wer": {"c": 1}},
        }
        plot = scatter_plot(gains, {"a": 5.0, "b": 0.0, "d": 1.0}, "SNR")
        assert (plot["utterances"], plot["snrs"]) == (["a", "b"], [5.0, 0.0])
        (metric,) = plot["metrics"]
        assert (metric["key"], metric["title"]) == ("stoi", "gain in STOI")
        assert metric["gains"] == {"one": [0.1, 0.2], "two": [-0.3, None]}


class TestExtremes:
    def test_no_utterance_is_among_both(self):
        best, worst = extremes({f"u{i}": float(i) for i in range(15)}, 10)
        assert (best[0], worst[0], len(best), len(worst)) == ("u14", "u0", 8, 7)
        assert not set(best) & set(worst)

    def test_equal_gains_are_chosen_by_name(self):
        assert extremes(dict.fromkeys("cbad", 1.0), 1) == (["a"], ["d"])


class TestSpectrogram:
    @pytest.mark.parametrize("rate", [8000, 16000, 48000])
    def test_a_sine_is_a_line_at_its_frequency(self, rate):
        sine = np.sin(2 * np.pi * 1000 * np.arange(20 * rate) / rate)
        levels = spectrogram_db(sine, rate)
        assert levels.shape[0] <= 256 and levels.shape[1] <= 480
        row = levels[:, levels.shape[1] // 2].argmax()
        assert row / levels.shape[0] * rate / 2 == pytest.approx(1000, abs=rate / 2 / 128)

    def test_a_single_sample_can_be_drawn(self):
        levels = spectrogram_db(np.ones(1), RATE)
        assert np.isfinite(levels).all()
        assert Image.open(io.BytesIO(spectrogram_png(levels, 0.0))).size == levels.shape[::-1]

    def test_low_frequencies_are_at_the_bottom_and_the_range_is_kept(self):
        levels = np.array([[0.0], [-RANGE_DB / 2], [-RANGE_DB], [-200.0], [20.0]])
        picture = Image.open(io.BytesIO(spectrogram_png(levels, 0.0)))
        red, _, blue = np.asarray(picture.convert("RGB"))[::-1, 0].T.astype(int)
        assert red[0] > red[1] > red[2] and (red[3], red[4]) == (red[2], red[0])
        assert blue[2] < blue[1]


class TestListening:
    @pytest.fixture
    def entries(self, tmp_path):
        """A mixture of two channels, an estimate beyond full scale and a reference."""
        time = np.arange(RATE // 2) / RATE
        tone = np.sin(2 * np.pi * 440 * time)
        signals = {"noisy": np.stack([0 * tone, 0.5 * tone], 1), "ours": 1.5 * tone, "clean": tone}
        for name, signal in signals.items():
            soundfile.write(tmp_path / f"{name}.wav", signal, RATE, "FLOAT")
        return {name: str(tmp_path / f"{name}.wav") for name in signals}

    def test_sounds_are_flac_of_16_bits_at_their_own_level(self, entries):
        listening = listen("utt", entries, ref_channel=1)
        assert [clip.name for clip in listening.clips] == ["noisy", "ours", "clean"]
        assert (listening.seconds, listening.max_khz) == (0.5, 8.0)
        file = contents(listening.clips[0].audio, "audio/flac")
        info = soundfile.info(file)
        assert (info.format, info.subtype, info.samplerate) == ("FLAC", "PCM_16", RATE)
        file.seek(0)
        samples, _ = soundfile.read(file)
        assert samples.shape == (RATE // 2,) and np.abs(samples).max() == pytest.approx(0.5, 1e-3)

    def test_what_16_bits_cannot_hold_is_counted(self, entries):
        listening = listen("utt", entries, ref_channel=1)
        assert [clip.clipped > 0 for clip in listening.clips] == [False, True, False]

    def test_spectrograms_of_an_utterance_share_one_scale(self, entries):
        listening = listen("utt", entries, ref_channel=1)
        brightest = [
            int(np.asarray(Image.open(contents(clip.spectrogram, "image/png"))).max())
            for clip in listening.clips
        ]
        assert brightest[1] == 31  # the loudest of them
        assert brightest[0] < brightest[2] < brightest[1]

    def test_signals_that_cannot_be_read_are_named(self, entries, tmp_path):
        entries |= {"ours": None, "clean": str(tmp_path / "gone.wav")}
        listening = listen("utt", entries, ref_channel=7)
        assert listening.clips == []
        noisy, ours, clean = listening.problems
        assert "has 2 channels, there is no channel 7" in noisy
        assert ours == "ours: no audio of this utterance" and "gone.wav does not exist" in clean

    def test_most_extreme_utterances_come_first_until_the_budget_is_spent(self, entries):
        of_each = {name: dict.fromkeys("abcd", entry) for name, entry in entries.items()}
        size = listen("a", entries, 0).size
        heard, remarks = listen_in_turn(["a", "b"], ["d", "c"], of_each, 0, int(2.5 * size))
        assert list(heard) == ["a", "d"]
        assert remarks == ["Only 2 of 4 utterances are here, to keep this file small."]
        heard, remarks = listen_in_turn(["a", "b"], ["d", "c"], of_each, 0, 4 * size)
        assert (list(heard), remarks) == (["a", "d", "b", "c"], [])
