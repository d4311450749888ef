"""Enhancing while audio is being recorded: pipes and sound devices."""

import io
import struct
import subprocess
import sys
import types

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.deploy import command
from espnet2_tfckd.deploy.enhancer import OnnxEnhancer
from espnet2_tfckd.deploy.live import enhance_microphone, enhance_pipe

RATE = 16000


class Pipe(io.RawIOBase):
    """Contents that can only be read onwards; remembers how much has been read."""

    def __init__(self, contents):
        self.contents, self.position = contents, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        part = self.contents[self.position : self.position + len(buffer)]
        buffer[: len(part)] = part
        self.position += len(part)
        return len(part)


def wav(samples, subtype="PCM_16", rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format="WAV")
    return file.getvalue()


@pytest.fixture
def enhancer(causal_onnx):
    return OnnxEnhancer(causal_onnx, streaming=True)


@pytest.fixture
def mixture():
    return 0.1 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_a_pipe_gives_what_a_file_gives(subtype, enhancer, mixture):
    target = io.BytesIO()
    assert enhance_pipe(enhancer, Pipe(wav(mixture, subtype)), target) == 0
    estimate, rate = soundfile.read(io.BytesIO(target.getvalue()))
    (expected,) = [np.concatenate(list(enhancer.enhance([mixture[:, None]])))]
    assert rate == RATE and len(estimate) == len(mixture)
    np.testing.assert_allclose(estimate, expected, atol=2e-4 if subtype == "PCM_16" else 2e-5)


def test_headers_as_recorders_write_them(enhancer, mixture):
    """24 bits under the extensible format, and an end that is not known yet."""
    plain = wav(mixture, "PCM_24")
    samples = plain[plain.index(b"data") + 8 :]
    form = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, RATE, 3 * RATE, 3, 24, 22, 24, 4, 1) + bytes(14)
    head = b"RIFF" + b"\xff" * 4 + b"WAVEfmt " + struct.pack("<I", len(form)) + form
    contents = head + b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"data" + b"\xff" * 4
    targets = [io.BytesIO(), io.BytesIO()]
    enhance_pipe(enhancer, Pipe(contents + samples), targets[0])
    enhance_pipe(enhancer, Pipe(plain), targets[1])
    assert targets[0].getvalue() == targets[1].getvalue()


def test_other_rates_and_channels_are_adapted(enhancer, mixture):
    target = io.BytesIO()
    enhance_pipe(enhancer, Pipe(wav(np.stack([0 * mixture, mixture], 1), rate=8000)), target, 1)
    estimate, rate = soundfile.read(io.BytesIO(target.getvalue()))
    assert (len(estimate), rate) == (2 * len(mixture), RATE) and np.abs(estimate).max() > 0.01


def test_the_estimate_leaves_before_the_recording_ends(enhancer, mixture):
    source, behind = Pipe(wav(mixture)), []

    class Target(io.BytesIO):
        def write(self, data):
            behind.append((source.position - 44 - max(0, self.tell() - 44)) / 2)
            return super().write(data)

    enhance_pipe(enhancer, source, Target())
    # a window, half a window and two hops, whenever something is written
    assert (
        max(behind) <= enhancer.n_fft * 1.5 + 2 * enhancer.hop_length + io.DEFAULT_BUFFER_SIZE / 2
    )
    assert len(behind) > 100


def test_a_recording_that_is_cut_off_within_a_sample_is_enhanced(enhancer, mixture):
    target = io.BytesIO()
    enhance_pipe(enhancer, Pipe(wav(mixture)[:-1]), target)
    assert len(soundfile.read(io.BytesIO(target.getvalue()))[0]) == len(mixture) - 1


def test_clipping_is_counted(enhancer, mixture):
    enhancer.enhance = lambda blocks: (np.full(len(block), 1.5, np.float32) for block in blocks)
    target = io.BytesIO()
    assert enhance_pipe(enhancer, Pipe(wav(mixture)), target) == len(mixture)
    assert soundfile.read(io.BytesIO(target.getvalue()))[0].max() == 32767 / 32768


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "is not wav"),
        (wav(np.zeros(100))[:30], "is not wav"),
        (wav(np.zeros(100)).replace(b"fmt ", b"junk"), "its header states no format"),
        (wav(np.zeros(100), "ULAW"), "8 bits in the format 7"),
        (b"fLaC" + bytes(100), "ffmpeg -i ... -f wav -"),
        (wav(np.zeros(100), "PCM_U8"), "8 bits in the format 1: record 16, 24 or 32"),
        (wav(np.zeros(0)), "is empty"),
    ],
)
def test_what_is_no_wav_is_refused(contents, words, enhancer):
    with pytest.raises(ValueError, match=words.replace(".", "[.]")):
        enhance_pipe(enhancer, Pipe(contents), io.BytesIO())


def test_the_command_goes_between_two_pipes(causal_onnx, mixture):
    call = [sys.executable, "-m", "espnet2_tfckd", "enhance", "-", "-o", "-", "--streaming"]
    done = subprocess.run(
        [*call, "--model", str(causal_onnx)], input=wav(mixture), capture_output=True
    )
    assert done.returncode == 0 and not done.stderr
    assert len(soundfile.read(io.BytesIO(done.stdout))[0]) == len(mixture)
    done = subprocess.run([*call, "--model", str(causal_onnx)], input=b"mp3", capture_output=True)
    assert done.returncode == 1 and done.stderr.startswith(b"error: standard input is not wav")


class Devices(types.ModuleType):
    """Sound devices whose microphone hears a recording, until the user interrupts."""

    class PortAudioError(Exception):
        """As sounddevice's."""

    def __init__(self, recording):
        super().__init__("sounddevice")
        self.recording, self.played, self.settings = recording, [], {}

    def Stream(self, **settings):  # noqa: N802
        if settings["device"][0] == "missing":
            raise self.PortAudioError("no such device")
        self.settings = settings
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        pass

    def read(self, size):
        if not len(self.recording):
            raise KeyboardInterrupt
        block, self.recording = self.recording[:size], self.recording[size:]
        return block[:, None], len(self.recording) == 0

    def write(self, samples):
        self.played.append(samples[:, 0])
        return False

    def query_devices(self):
        return "0 a microphone"


@pytest.fixture
def devices(mixture, monkeypatch):
    made = Devices(mixture[: 100 * 64])
    monkeypatch.setitem(sys.modules, "sounddevice", made)
    return made


def test_the_microphone_is_enhanced_until_ctrl_c(enhancer, devices):
    recording = devices.recording
    assert enhance_microphone(enhancer, 3, "head") == 1
    played = np.concatenate(devices.played)
    (expected,) = [np.concatenate(list(enhancer.enhance([recording[:, None]])))]
    np.testing.assert_allclose(played, expected[: len(played)], atol=1e-6)
    assert len(played) >= len(recording) - 1.5 * enhancer.n_fft - 2 * enhancer.hop_length
    assert devices.settings["device"] == (3, "head")
    assert devices.settings["samplerate"] == RATE and devices.settings["channels"] == (1, 1)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", *arguments])
    command.main()


def test_the_command_live(devices, causal_onnx, monkeypatch, capsys):
    run(monkeypatch, "live", "--list_devices")
    assert "a microphone" in capsys.readouterr().out
    run(monkeypatch, "live", "--model", str(causal_onnx))
    assert "1 blocks came too late" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(monkeypatch, "live", "--model", str(causal_onnx), "--input_device", "missing")
    assert "no such device. List them with --list_devices" in capsys.readouterr().err


def test_without_sound_devices_the_remedy_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SystemExit):
        run(monkeypatch, "live", "--list_devices")
    assert "pip install sounddevice" in capsys.readouterr().err
