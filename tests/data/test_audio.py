"""Audio in and out: every format people have is read, what is broken is named, writing is safe."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.data.audio import (
    audio_files,
    audio_shape,
    audio_writer,
    kept_subtype,
    read_audio,
    write_audio,
)
from espnet2_tfckd.data.decoding import open_audio
from tests.data.encoded import RATE, READABLE, REFUSED, SAMPLES, by_libsndfile, tone


@pytest.mark.parametrize("name", READABLE)
def test_what_people_have_is_read(name, tmp_path):
    path = READABLE[name](tmp_path / name)
    samples, rate = read_audio(path)
    assert samples.dtype == np.float32 and samples.shape[1] == 1
    seconds = len(samples) / rate
    assert 0.98 < seconds < 1.15  # encoders add some samples
    frames, _, rate = audio_shape(path)
    assert frames / rate == pytest.approx(seconds, abs=0.04)
    # the tone, whatever the delay: most of the power is at 440 Hz
    middle = samples[rate // 4 : 3 * rate // 4, 0] * np.hanning(rate // 2)
    power = np.abs(np.fft.rfft(middle)) ** 2
    assert 0.25 < np.abs(samples).max() < 0.6
    assert power[216:225].sum() > 0.8 * power.sum()
    assert abs(int(power.argmax()) - 220) <= 1


@pytest.mark.parametrize("name", READABLE)
def test_blocks_are_the_whole(name, tmp_path):
    path = READABLE[name](tmp_path / name)
    with open_audio(path) as audio:
        blocks = list(audio.blocks(1000))
    assert max(map(len, blocks)) <= 1000
    np.testing.assert_allclose(np.concatenate(blocks), read_audio(path)[0], atol=1e-6)


def test_audio_comes_from_memory_too(tmp_path):
    contents = io.BytesIO(READABLE["opus.webm"](tmp_path / "a.webm").read_bytes())
    for _ in range(2):  # from its beginning each time
        with open_audio(contents) as audio:
            assert len(audio.read()) == 48000


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_broken_is_refused_by_name(name, tmp_path):
    make, text = REFUSED[name]
    path = make(tmp_path / name)
    by_libsndfile(tmp_path / "plain.wav")  # what a playlist points at
    with pytest.raises(ValueError, match=text) as error:
        read_audio(path)
    assert str(error.value).startswith(f"{path} ") and "\n" not in str(error.value)
    if not name.startswith("half"):
        with pytest.raises(ValueError, match=text):
            audio_shape(path)


@pytest.mark.parametrize("name", ["missing.wav", "folder.wav"])
def test_what_is_no_file_is_refused_by_name(name, tmp_path):
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(OSError, match=name):
        read_audio(tmp_path / name)


def test_a_few_missing_bytes_are_a_sloppy_header(tmp_path):
    path = by_libsndfile(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:-400])
    assert len(read_audio(path)[0]) == SAMPLES - 200


def test_listing_passes_over_what_is_no_recording(tmp_path):
    wanted = ["a.wav", "B.WAV", "deep/c.oga", "deep/d.M4A", "e.mp3", "_x.wav", "f.webm"]
    others = ["._a.wav", ".a.123.partial.wav", ".trash/a.wav", "__MACOSX/a.wav", "notes.txt", "wav"]
    for name in (*wanted, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "lost.wav").symlink_to("nowhere")
    found = [str(path.relative_to(tmp_path)) for path in audio_files(tmp_path)]
    assert sorted(found) == sorted(wanted)
    assert len(audio_files(tmp_path, deep=False)) == 5


def test_listing_follows_links_to_folders_once(tmp_path):
    for name in ("here/a.wav", "elsewhere/b.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "here/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here/linked again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "here")
    found = [str(path.relative_to(tmp_path)) for path in audio_files(tmp_path / "here")]
    assert found == ["here/a.wav", "here/linked/b.wav"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        audio_files(tmp_path / "nowhere")


class TestWriting:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_not_written(self, bad, tmp_path):
        signal = tone()
        signal[7] = bad
        write_audio(tmp_path / "a.wav", tone(), RATE)
        with pytest.raises(ValueError, match="a.wav is not written: 1 of 16000 samples.*NaN"):
            write_audio(tmp_path / "a.wav", signal, RATE)
        with pytest.raises(ValueError, match="not written: 1 of 16000"):
            with audio_writer(tmp_path / "a.wav", RATE, subtype="FLOAT") as writer:
                writer.write(tone())
                writer.write(signal)
        assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
        assert len(read_audio(tmp_path / "a.wav")[0]) == SAMPLES  # the earlier one

    def test_what_would_clip_is_refused_where_it_would(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"a.wav is not written: it would clip in PCM_16.*1.50"
        ):
            write_audio(tmp_path / "a.wav", 5 * tone(), RATE)
        write_audio(tmp_path / "a.wav", 5 * tone(), RATE, "FLOAT")
        assert read_audio(tmp_path / "a.wav")[0].max() == pytest.approx(1.5, abs=1e-3)

    def test_blocks_count_what_clips(self, tmp_path):
        with audio_writer(tmp_path / "a.wav", RATE) as writer:
            writer.write(np.array([0.5, 1.5, -2.0, 1.0]))
        assert writer.clipped == 2 and writer.frames == 4

    @pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.m4a", "a", "a.raw", "a.aiff"])
    def test_the_name_and_the_container_agree(self, name, tmp_path):
        with pytest.raises(ValueError, match=f"{name}: audio is not written as .*name it .wav or"):
            write_audio(tmp_path / name, tone(), RATE)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["a.wav", "a.WAV", "a.flac", "a.Flac"])
    def test_what_is_written_is_read_back(self, name, tmp_path):
        signal = np.stack([tone(), -tone()], 1)
        write_audio(tmp_path / name, signal, RATE, "PCM_24")
        info = soundfile.info(tmp_path / name)
        assert info.format == name[2:].upper() and info.subtype == "PCM_24"
        np.testing.assert_allclose(read_audio(tmp_path / name)[0], signal, atol=1e-6)

    @pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
    def test_an_input_is_not_overwritten_under_any_name(self, link, tmp_path):
        source = by_libsndfile(tmp_path / "a.wav")
        other = tmp_path / "b.wav"
        getattr(other, link)(source)
        before = source.read_bytes()
        for target in (other, source, tmp_path / "x" / ".." / "a.wav"):
            with pytest.raises(ValueError, match="is the input"):
                write_audio(target, tone(), RATE, inputs=[source])
        assert source.read_bytes() == before == other.read_bytes()

    def test_a_full_disk_is_named_and_leaves_nothing(self, tmp_path):
        code = (
            "import resource, sys, numpy as np\n"
            "from espnet2_tfckd.cli import run_command\n"
            "from espnet2_tfckd.data.audio import write_audio\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
            "run_command(lambda: write_audio(sys.argv[1], np.zeros(16000), 16000))\n"
        )
        call = [sys.executable, "-c", code, str(tmp_path / "a.wav")]
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert f"{tmp_path / 'a.wav'} cannot be written to its end" in done.stderr
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("subtype", soundfile.available_subtypes("WAV"))
    def test_no_encoding_is_kept_that_loses_bits(self, subtype):
        for container in ("WAV", "FLAC"):
            kept = kept_subtype(subtype, container)
            assert kept in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
            assert kept in soundfile.available_subtypes(container)
