"""Stages 2 to 4: speed perturbation, format and filter, and what they refuse."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.cli import hertz, run_command
from espnet2_tfckd.data.datadir import DataDir, read_data_dir, write_data_dir
from espnet2_tfckd.data.entries import read_entry
from espnet2_tfckd.stages import filter as filter_stage
from espnet2_tfckd.stages import format as format_stage
from espnet2_tfckd.stages.filter import filter_data_dir
from espnet2_tfckd.stages.format import format_data_dir
from espnet2_tfckd.stages.speed_perturb import speed_perturb
from tests.data.encoded import READABLE, halved
from tests.stages.pairs import BAD_AUDIO, RATE, make_data_dir, overwrite, signals


class TestFormat:
    def test_audio_that_is_right_stays_where_it_is(self, pairs_dir, tmp_path):
        format_data_dir(pairs_dir, tmp_path / "out")
        assert read_data_dir(tmp_path / "out") == read_data_dir(pairs_dir)

    @pytest.mark.parametrize("audio_format", ["flac", "wav.ark", "flac.ark"])
    def test_conversion_keeps_samples_and_tables(self, pairs_dir, tmp_path, audio_format):
        format_data_dir(pairs_dir, tmp_path / "out", audio_format=audio_format, nj=2)
        before, after = read_data_dir(pairs_dir), read_data_dir(tmp_path / "out")
        assert (after.text, after.metadata) == (before.text, before.metadata)
        for side in ("mixture", "reference"):
            for utterance, entry in getattr(after, side).items():
                samples, rate = read_entry(entry)
                assert rate == RATE
                expected, _ = read_entry(getattr(before, side)[utterance])
                np.testing.assert_allclose(samples, expected, atol=2**-15)

    def test_resampling_is_announced_and_keeps_tone_and_duration(self, tmp_path, capsys):
        make_data_dir(tmp_path / "in", rate=48000)
        format_data_dir(tmp_path / "in", tmp_path / "out", fs=16000)
        assert "resampled 3 of 3 utterances from 48000 to 16000 Hz" in capsys.readouterr().out
        samples, rate = read_entry(read_data_dir(tmp_path / "out").reference["bob-1"])
        expected = signals("bob-1")[1]
        assert (rate, len(samples)) == (16000, len(expected))
        middle = slice(1000, -1000)
        np.testing.assert_allclose(samples[middle], expected[middle], atol=1e-3)

    def test_short_utterances_are_repeated_to_the_length_asked_for(
        self, pairs_dir, tmp_path, capsys
    ):
        format_data_dir(pairs_dir, tmp_path / "out", repeat_until=0.45)
        before, after = read_data_dir(pairs_dir), read_data_dir(tmp_path / "out")
        assert after.mixture["ann-2"] == before.mixture["ann-2"]  # 0.5 s are enough
        for old, new in ((before.mixture, after.mixture), (before.reference, after.reference)):
            once, repeated = read_entry(old["ann-1"])[0], read_entry(new["ann-1"])[0]
            assert (len(once), len(repeated)) == (3200, 7200)
            expected = np.concatenate([once, once, once[:800]])
            np.testing.assert_allclose(repeated, expected, atol=2 / 32768)
        assert "repeated 1 of 3 utterances" in capsys.readouterr().out

    def test_reference_loses_its_channels_and_mixture_keeps_them(self, tmp_path):
        make_data_dir(tmp_path / "in", channels=4)
        format_data_dir(tmp_path / "in", tmp_path / "out", ref_channel=1)
        data = read_data_dir(tmp_path / "out")
        mixture, reference = (read_entry(t["bob-1"])[0] for t in (data.mixture, data.reference))
        expected_mixture, expected_reference = signals("bob-1", channels=4)
        np.testing.assert_allclose(mixture, expected_mixture, atol=2**-14)
        np.testing.assert_allclose(reference, expected_reference[:, 1:2], atol=2**-14)

    def test_reference_channel_that_is_none(self, tmp_path):
        make_data_dir(tmp_path / "in", channels=2)
        with pytest.raises(ValueError, match="ref_channel 2 does not exist"):
            format_data_dir(tmp_path / "in", tmp_path / "out", ref_channel=2)

    def test_audio_beyond_full_scale_is_turned_down_not_clipped(self, pairs_dir, tmp_path, capsys):
        mixture, reference = signals("bob-1")
        overwrite(pairs_dir / "bob-1_m.wav", mixture * 4)
        overwrite(pairs_dir / "bob-1_r.wav", reference * 4)
        format_data_dir(pairs_dir, tmp_path / "out", audio_format="flac")
        assert "turned 1 of 3 utterances down" in capsys.readouterr().out
        data = read_data_dir(tmp_path / "out")
        after = [read_entry(table["bob-1"])[0] for table in (data.mixture, data.reference)]
        ratio = np.abs(after[0]).max() / np.abs(mixture).max()
        assert ratio * 4 > 1
        np.testing.assert_allclose(after[1], reference * ratio, atol=1e-3)

    def test_mixtures_with_different_numbers_of_channels(self, pairs_dir, tmp_path):
        overwrite(pairs_dir / "bob-1_m.wav", np.repeat(signals("bob-1")[0], 2, axis=1))
        with pytest.raises(ValueError, match="bob-1: the mixture has 2 channels, most have 1"):
            format_data_dir(pairs_dir, tmp_path / "out")

    @pytest.mark.parametrize("kind", BAD_AUDIO)
    def test_bad_audio_is_named_and_nothing_is_written(self, pairs_dir, tmp_path, kind):
        spoil, complaint = BAD_AUDIO[kind]
        spoil(pairs_dir / "bob-1_m.wav")
        with pytest.raises(ValueError, match=complaint):
            format_data_dir(pairs_dir, tmp_path / "out")
        assert not (tmp_path / "out" / "wav.scp").exists()

    def test_all_bad_utterances_are_listed_at_once(self, pairs_dir, tmp_path):
        overwrite(pairs_dir / "ann-2_r.wav", np.zeros(8000))
        overwrite(pairs_dir / "bob-1_m.wav", np.full(RATE, np.inf))
        with pytest.raises(ValueError, match="(?s)2 problems.*ann-2: .*silent.*bob-1: .*numbers"):
            format_data_dir(pairs_dir, tmp_path / "out")

    def test_rerun_after_a_failure_does_only_what_is_left(self, pairs_dir, tmp_path, monkeypatch):
        monkeypatch.setattr("espnet2_tfckd.data.shards.SHARD_SIZE", 1)
        good = (pairs_dir / "bob-1_m.wav").read_bytes()
        (pairs_dir / "bob-1_m.wav").write_bytes(b"RIFF no")
        with pytest.raises(ValueError, match="bob-1"):
            format_data_dir(pairs_dir, tmp_path / "out", audio_format="flac")
        finished = tmp_path / "out" / "audio" / "shard_0.json"
        assert finished.exists()
        (pairs_dir / "bob-1_m.wav").write_bytes(good)
        format_data_dir(pairs_dir, tmp_path / "out", audio_format="flac")
        first = (tmp_path / "out/audio/mixture/ann-1.flac").stat().st_mtime_ns
        format_data_dir(pairs_dir, tmp_path / "out", audio_format="flac")
        assert (tmp_path / "out/audio/mixture/ann-1.flac").stat().st_mtime_ns == first

    def test_changed_input_is_not_mistaken_for_finished(self, pairs_dir, tmp_path):
        format_data_dir(pairs_dir, tmp_path / "out", audio_format="flac")
        overwrite(pairs_dir / "bob-1_m.wav", signals("bob-1")[0] * 0.5)
        format_data_dir(pairs_dir, tmp_path / "out", audio_format="flac")
        samples, _ = read_entry(read_data_dir(tmp_path / "out").mixture["bob-1"])
        np.testing.assert_allclose(samples, signals("bob-1")[0] * 0.5, atol=2**-14)

    @pytest.mark.parametrize("kind", ["m", "r"])
    def test_other_contents_of_the_same_size_and_date_are_noticed(
        self, pairs_dir, tmp_path, capsys, kind
    ):
        format_data_dir(pairs_dir, tmp_path / "out", fs=8000)
        path = pairs_dir / f"bob-1_{kind}.wav"
        times = path.stat()
        soundfile.write(path, read_entry(str(path))[0][::-1], RATE, "PCM_16")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_size == times.st_size
        data = read_data_dir(tmp_path / "out")
        before = {u: Path(entry).read_bytes() for u, entry in data.mixture.items()}
        before |= {u + "_r": Path(entry).read_bytes() for u, entry in data.reference.items()}
        format_data_dir(pairs_dir, tmp_path / "out", fs=8000)
        name = {"m": "mixture", "r": "reference"}[kind]
        assert f"again, since bob-1 {name} was changed" in capsys.readouterr().out
        after = {u: Path(entry).read_bytes() for u, entry in data.mixture.items()}
        after |= {u + "_r": Path(entry).read_bytes() for u, entry in data.reference.items()}
        changed = {"m": "bob-1", "r": "bob-1_r"}[kind]
        assert [name for name in before if before[name] != after[name]] == [changed]

    def test_what_somebody_removed_is_written_again(self, pairs_dir, tmp_path, capsys):
        format_data_dir(pairs_dir, tmp_path / "out", fs=8000)
        Path(read_data_dir(tmp_path / "out").reference["bob-1"]).unlink()
        format_data_dir(pairs_dir, tmp_path / "out", fs=8000)
        assert "what was written is gone" in capsys.readouterr().out
        assert Path(read_data_dir(tmp_path / "out").reference["bob-1"]).is_file()

    def test_what_was_moved_is_written_again(self, pairs_dir, tmp_path, capsys):
        format_data_dir(pairs_dir, tmp_path / "out", fs=8000)
        (tmp_path / "out").rename(tmp_path / "moved")
        format_data_dir(pairs_dir, tmp_path / "moved", fs=8000)
        assert "folder changed" in capsys.readouterr().out
        for data in (moved := read_data_dir(tmp_path / "moved")).mixture, moved.reference:
            assert all(Path(path).is_file() and "/moved/" in path for path in data.values())

    def test_audio_of_utterances_that_are_gone_is_removed(self, pairs_dir, tmp_path):
        format_data_dir(pairs_dir, tmp_path / "out", fs=8000)
        data = read_data_dir(pairs_dir)
        write_data_dir(pairs_dir, data.subset(["ann-1", "bob-1"]))
        format_data_dir(pairs_dir, tmp_path / "out", fs=8000)
        left = sorted(p.stem for p in (tmp_path / "out" / "audio" / "mixture").iterdir())
        assert left == ["ann-1", "bob-1"]

    def test_a_folder_of_somebody_else_is_left_alone(self, pairs_dir, tmp_path):
        own = tmp_path / "out" / "audio" / "holiday.wav"
        own.parent.mkdir(parents=True)
        own.write_bytes(b"a recording")
        with pytest.raises(ValueError, match="holds files that this recipe did not write"):
            format_data_dir(pairs_dir, tmp_path / "out", fs=8000)
        assert own.read_bytes() == b"a recording"

    @pytest.mark.parametrize(
        ("audio_format", "loader"),
        [("wav", "sound"), ("flac", "sound"), ("wav.ark", "kaldi_ark"), ("flac.ark", "kaldi_ark")],
    )
    def test_espnet_reads_the_result(self, pairs_dir, tmp_path, audio_format, loader):
        from espnet2.train.dataset import ESPnetDataset

        out = tmp_path / "out"
        format_data_dir(pairs_dir, out, fs=8000, audio_format=audio_format)
        dataset = ESPnetDataset(
            [(str(out / "wav.scp"), "speech_mix", loader), (str(out / "spk1.scp"), "ref", loader)]
        )
        _, batch = dataset["bob-1"]
        assert batch["speech_mix"].dtype == np.float32
        assert batch["speech_mix"].shape[0] == batch["ref"].shape[0] == 8000
        assert np.abs(batch["ref"]).max() == pytest.approx(0.3, abs=0.02)

    def test_sampling_rates_as_espnet_writes_them(self):
        assert [hertz(text) for text in ("16k", "8000", "44.1k")] == [16000, 8000, 44100]

    def test_command_line_says_the_problem_and_nothing_else(self, tmp_path, capsys, monkeypatch):
        folders = [str(tmp_path / "none"), str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", ["format", *folders, "--fs", "16k"])
        with pytest.raises(SystemExit) as stop:
            run_command(format_stage.main)
        assert stop.value.code == 1
        assert capsys.readouterr().err.startswith("error: ")

    def test_command_line_refuses_a_strange_rate(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as stop:
            format_stage.main([str(tmp_path), str(tmp_path), "--fs", "fast"])
        assert stop.value.code == 2
        assert "give 16k or 16000" in capsys.readouterr().err


class TestFilter:
    def test_durations_are_limits_included(self, pairs_dir, tmp_path):
        assert filter_data_dir(pairs_dir, tmp_path / "out", 0.2, 0.5) == 1
        data = read_data_dir(tmp_path / "out")
        assert list(data.mixture) == list(data.metadata) == ["ann-1", "ann-2"]
        assert data.text == {"ann-1": "hello there"}

    def test_ark_entries_are_measured_too(self, pairs_dir, tmp_path):
        format_data_dir(pairs_dir, tmp_path / "ark", audio_format="flac.ark")
        assert filter_data_dir(tmp_path / "ark", tmp_path / "out", 0.3, 30) == 1

    def test_nothing_left_is_an_error_that_tells_the_durations(self, pairs_dir, tmp_path):
        with pytest.raises(ValueError, match=r"they last 0.20 to 1.00 s"):
            filter_data_dir(pairs_dir, tmp_path / "out", 5, 30)
        assert not (tmp_path / "out").exists()

    def test_empty_range(self, pairs_dir, tmp_path):
        with pytest.raises(ValueError, match="must be below"):
            filter_data_dir(pairs_dir, tmp_path / "out", 2, 1)

    def test_unreadable_audio_is_named(self, pairs_dir, tmp_path):
        (pairs_dir / "ann-2_m.wav").write_bytes(b"no audio")
        with pytest.raises(ValueError, match="ann-2: .*not readable audio"):
            filter_data_dir(pairs_dir, tmp_path / "out", 0.1, 30)

    def test_last_line_says_where_the_output_is(self, pairs_dir, tmp_path, capsys):
        out = str(tmp_path / "out")
        limits = ["--min_wav_duration", "0.1", "--max_wav_duration", "0.9"]
        filter_stage.main([str(pairs_dir), out, *limits])
        assert capsys.readouterr().out == f"dropped 1 utterances; filtered data directory: {out}\n"


class TestSpeedPerturb:
    def test_copies_with_prefixed_ids(self, pairs_dir, tmp_path):
        speed_perturb(pairs_dir, tmp_path / "out", [0.9, 1.0, 1.1], nj=2)
        data = read_data_dir(tmp_path / "out")
        assert len(data) == 9
        assert data.speaker["sp0.9-bob-1"] == "sp0.9-bob"
        assert data.mixture["bob-1"] == read_data_dir(pairs_dir).mixture["bob-1"]
        assert data.text["sp1.1-ann-1"] == "hello there"
        assert data.metadata["sp0.9-bob-1"] == {"speaker": "sp0.9-bob", "seconds": "1.111"}

    def test_speed_changes_tempo_and_pitch_of_both(self, pairs_dir, tmp_path):
        speed_perturb(pairs_dir, tmp_path / "out", [1.25])
        data = read_data_dir(tmp_path / "out")
        mixture, rate = read_entry(data.mixture["sp1.25-bob-1"])
        reference, _ = read_entry(data.reference["sp1.25-bob-1"])
        assert (len(mixture), len(reference), rate) == (12800, 12800, RATE)
        spectrum = np.abs(np.fft.rfft(reference[:, 0]))
        assert np.argmax(spectrum) * rate / len(reference) == pytest.approx(440 * 1.25, abs=2)

    @pytest.mark.parametrize("factors", [[], [1.0, 1.0], [0.0], [9.0]])
    def test_senseless_factors(self, pairs_dir, tmp_path, factors):
        with pytest.raises(ValueError, match="speed factors must be"):
            speed_perturb(pairs_dir, tmp_path / "out", factors)

    @pytest.mark.parametrize("kind", BAD_AUDIO)
    def test_bad_audio_is_named(self, pairs_dir, tmp_path, kind):
        spoil, complaint = BAD_AUDIO[kind]
        spoil(pairs_dir / "bob-1_m.wav")
        with pytest.raises(ValueError, match=complaint):
            speed_perturb(pairs_dir, tmp_path / "out", [0.9])


class TestInputsAreKept:
    """A stage never empties or overwrites a folder that holds the audio it reads."""

    def test_a_data_directory_is_not_formatted_into_itself(self, pairs_dir, tmp_path):
        format_data_dir(pairs_dir, tmp_path / "out", audio_format="flac")
        before = sorted((tmp_path / "out").rglob("*"))
        with pytest.raises(ValueError, match="audio holds the input"):
            format_data_dir(tmp_path / "out", tmp_path / "out", audio_format="wav")
        with pytest.raises(ValueError, match="audio holds the input"):
            speed_perturb(tmp_path / "out", tmp_path / "out", [0.9])
        assert sorted((tmp_path / "out").rglob("*")) == before


class TestFormatsOfTheSource:
    @pytest.mark.parametrize("name", ["gsm.wav", "piped_zero.wav", "mulaw.wav", "mp3_inside.wav"])
    def test_what_espnet_cannot_read_as_it_is_is_written_anew(self, name, tmp_path):
        path = READABLE[name](tmp_path / name)
        samples, rate = read_entry(str(path))
        noisy = tmp_path / "noisy.wav"
        rng = np.random.default_rng(0)
        soundfile.write(noisy, samples[:, 0] + 0.01 * rng.standard_normal(len(samples)), rate)
        data = DataDir({"a": str(noisy)}, {"a": str(path)}, {"a": "a"})
        write_data_dir(tmp_path / "in", data)
        format_data_dir(tmp_path / "in", tmp_path / "out", fs=rate)
        written = read_data_dir(tmp_path / "out").reference["a"]
        assert written != str(path) and soundfile.info(written).subtype == "PCM_16"
        assert len(soundfile.read(written)[0]) == len(samples)

    def test_a_file_that_is_cut_off_is_named(self, pairs_dir, tmp_path):
        entry = next(iter(read_data_dir(pairs_dir).mixture.values()))
        halved(Path(entry))
        with pytest.raises(ValueError, match=r"is cut off: .* get the file again"):
            format_data_dir(pairs_dir, tmp_path / "out", fs=8000)

    def test_less_than_a_sample_is_named(self, tmp_path):
        for name in ("m", "r"):
            soundfile.write(tmp_path / f"{name}.wav", np.full(1, 0.5), 48000)
        data = DataDir({"a": str(tmp_path / "m.wav")}, {"a": str(tmp_path / "r.wav")}, {"a": "a"})
        write_data_dir(tmp_path / "in", data)
        with pytest.raises(ValueError, match="a: lasts less than a sample at 8000 Hz"):
            format_data_dir(tmp_path / "in", tmp_path / "out", fs=8000)
