"""Files in and out of espnet2-tfckd enhance: inputs kept, formats, bits, offsets, messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.deploy import command, enhancer
from espnet2_tfckd.deploy.files import enhance_file, plan
from espnet2_tfckd.models.configuration import Rate
from tests.data.encoded import READABLE, REFUSED, by_libsndfile, halved, tone

RATE = 16000


class Halving:
    """A model that halves what it hears, and remembers it."""

    rate, sample_rate, microphones = Rate(RATE, True), RATE, 1

    def __init__(self, gain=0.5):
        self.heard, self.gain = [], gain

    def enhance(self, blocks):
        for block in blocks:
            self.heard.append(block[:, 0])
            yield (self.gain * block[:, 0]).astype(np.float32)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", *map(str, arguments)])
    command.main()


@pytest.fixture
def sounds(tmp_path, monkeypatch):
    """``in/a.wav`` and ``in/deep/b.flac`` below the working directory."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    by_libsndfile(tmp_path / "in" / "a.wav")
    by_libsndfile(tmp_path / "in" / "deep" / "b.flac")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["in"], "in", "is the input|lies in the input"),
        (["in"], "in/", "lies in the input|is the input"),
        (["in/"], "in/enhanced", "lies in the input in"),
        (["in"], "in/deep/new/c.wav/", "lies in the input in"),
        (["in"], "link", "lies in the input|is the input"),
        (["in/a.wav"], "in/a.wav", "is the input"),
        (["in/a.wav"], "in", "is the input"),
        (["in/a.wav"], "./in/deep/../a.wav", "is the input"),
        (["in/a.wav"], "soft.wav", "is the input"),
        (["soft.wav"], "in/a.wav", "is the input"),
        (["in/a.wav"], "hard.wav", "is the input"),
        (["in/a.wav"], "", "--output is empty"),
        (["in/a.wav"], " ", "--output is empty"),
        (["in/a.wav", "in/deep/b.flac"], "x.wav", "x.wav names a file, and several"),
        (["in"], "x.flac", "x.flac names a file, and several"),
        (["in"], "notes", "notes is a file, and several files need a folder"),
        (["in"], "-", "several files cannot go to one"),
        (["in/a.wav"], "x.mp3", "x.mp3: audio is not written as .mp3"),
        (["in/a.wav"], "v1.0", "v1.0: audio is not written as .0"),
        (["in/a.wav"], "x.ogg", "x.ogg: audio is not written as .ogg"),
        ([""], "x.wav", "an empty name is not there"),
        (["nothing"], "x.wav", "nothing is not there"),
        (["in/a.wav", "in/a.wav"], "out", "several inputs would become"),
    ],
)
def test_outputs_that_cannot_be_are_refused(inputs, output, message, sounds):
    (sounds / "link").symlink_to("in")
    (sounds / "soft.wav").symlink_to("in/a.wav")
    (sounds / "hard.wav").hardlink_to(sounds / "in" / "a.wav")
    (sounds / "notes").touch()
    before = contents(sounds)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        plan(inputs, output)
    assert contents(sounds) == before


def test_what_is_no_input_is_not_planned(sounds):
    for name in ("._a.wav", ".a.12.partial.wav", "deep/.b.flac", ".hidden/c.wav", "notes.txt"):
        (sounds / "in" / name).parent.mkdir(exist_ok=True)
        (sounds / "in" / name).touch()
    by_libsndfile(sounds / "in" / "C.WAV")
    by_libsndfile(sounds / "in" / "d.oga", "VORBIS", "OGG")
    planned = dict(plan(["in"], "out"))
    assert planned == {
        "in/C.WAV": "out/C.WAV",
        "in/a.wav": "out/a.wav",
        "in/d.oga": "out/d.wav",
        "in/deep/b.flac": "out/deep/b.flac",
    }
    assert plan(["in/a.wav"], ".") == [("in/a.wav", "a.wav")]


@pytest.mark.parametrize("name", READABLE)
def test_any_format_is_enhanced_and_written_with_16_bits_or_more(name, tmp_path):
    source = READABLE[name](tmp_path / name)
    outcome = enhance_file(Halving(), str(source), str(tmp_path / "out.wav"))
    assert outcome.error is None
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.samplerate, info.channels) == (RATE, 1) and 0.98 < info.duration < 1.15
    assert info.subtype == ("FLOAT" if name == "float.wav" else "PCM_16")
    assert 0.12 < np.abs(soundfile.read(tmp_path / "out.wav")[0]).max() < 0.3


@pytest.mark.parametrize(
    ("subtype", "target", "written"),
    [
        ("PCM_U8", "o.wav", "PCM_16"),
        ("ALAW", "o.flac", "PCM_16"),
        ("PCM_24", "o.wav", "PCM_24"),
        ("PCM_32", "o.flac", "PCM_24"),
        ("FLOAT", "o.flac", "PCM_24"),
        ("DOUBLE", "o.wav", "DOUBLE"),
    ],
)
def test_bits_beyond_16_are_kept(subtype, target, written, tmp_path):
    source = by_libsndfile(tmp_path / "a.wav", subtype)
    enhance_file(Halving(), str(source), str(tmp_path / target))
    assert soundfile.info(tmp_path / target).subtype == written


@pytest.mark.parametrize("name", [name for name in REFUSED if not name.startswith("half")])
def test_what_is_broken_is_named_once_and_leaves_nothing(name, tmp_path):
    source = REFUSED[name][0](tmp_path / name)
    outcome = enhance_file(Halving(), str(source), str(tmp_path / "out.wav"))
    assert outcome.target is None and outcome.error.count(str(source)) == 1
    assert "\n" not in outcome.error
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_file_that_is_cut_off_is_enhanced_with_a_message(tmp_path):
    source = halved(by_libsndfile(tmp_path / "a.wav"))
    outcome = enhance_file(Halving(), str(source), str(tmp_path / "out.wav"))
    assert outcome.error is None
    assert outcome.messages[-1].startswith("is cut off: 15978 of the 32000 bytes")
    assert 7900 < soundfile.info(tmp_path / "out.wav").frames < 8000


def test_an_estimate_that_is_not_finite_is_not_written(tmp_path):
    source = by_libsndfile(tmp_path / "a.wav")
    (tmp_path / "out.wav").write_text("an earlier one")
    outcome = enhance_file(Halving(np.nan), str(source), str(tmp_path / "out.wav"))
    assert "out.wav is not written: 16000 of 16000 samples would be NaN" in outcome.error
    assert (tmp_path / "out.wav").read_text() == "an earlier one"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_the_only_channel_is_taken_whichever_is_asked_for(rate, tmp_path):
    soundfile.write(tmp_path / "mono.wav", tone(rate), rate)
    outcome = enhance_file(Halving(), str(tmp_path / "mono.wav"), str(tmp_path / "out.wav"), 1)
    assert outcome.error is None and soundfile.info(tmp_path / "out.wav").frames > 0
    soundfile.write(tmp_path / "stereo.wav", np.zeros((100, 2)), rate)
    outcome = enhance_file(Halving(), str(tmp_path / "stereo.wav"), str(tmp_path / "2.wav"), 2)
    assert "has 2 channel(s), there is no channel 2" in outcome.error


@pytest.mark.parametrize("offset", [-0.1, 0.02])
def test_a_constant_offset_is_taken_away_and_put_back(offset, tmp_path):
    soundfile.write(tmp_path / "a.wav", tone() + offset, RATE, "FLOAT")
    model = Halving()
    outcome = enhance_file(model, str(tmp_path / "a.wav"), str(tmp_path / "out.wav"))
    assert f"a constant offset of {offset:.3f} was taken away" in outcome.messages[0]
    np.testing.assert_allclose(np.concatenate(model.heard), tone(), atol=1e-4)
    estimate = soundfile.read(tmp_path / "out.wav")[0]
    np.testing.assert_allclose(estimate, 0.5 * tone() + offset, atol=1e-4)


def test_without_an_offset_samples_are_handed_over_to_the_bit(tmp_path):
    signal = (tone() + 0.002).astype(np.float32)  # too small to harm
    soundfile.write(tmp_path / "a.wav", signal, RATE, "FLOAT")
    soundfile.write(tmp_path / "b.wav", np.full(100, 0.1, np.float32), RATE, "FLOAT")  # too short
    for name, expected in (("a.wav", signal), ("b.wav", np.full(100, 0.1, np.float32))):
        model = Halving()
        assert not enhance_file(model, str(tmp_path / name), str(tmp_path / "o.wav")).messages
        np.testing.assert_array_equal(np.concatenate(model.heard), expected)


@pytest.mark.parametrize(
    "options",
    [["--channel", "-1"], ["--channel", "x"], ["--nj", "0"], ["--nj", "-3"], ["--nj", "1.5"]],
)
def test_numbers_that_make_no_sense_are_refused(options, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "enhance", "a.wav", "-o", "b.wav", "--model", "m", *options)
    assert f"{options[1]!r} is not a whole number from" in capsys.readouterr().err


def test_a_number_may_begin_with_0():
    arguments = ["enhance", "a.wav", "-o", "b.wav", "--model", "m", "--nj", "08"]
    assert command.get_parser().parse_args(arguments).nj == 8


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_model_that_cannot_be_loaded_is_one_line(jobs, sounds, causal_exp):
    (sounds / "model").mkdir()
    (sounds / "model" / "config.yaml").write_text((causal_exp / "config.yaml").read_text())
    call = [sys.executable, "-m", "espnet2_tfckd", "enhance", "in", "-o", "out"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*call, "--model", "model", "--nj", jobs], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if "valid.loss.best.pth is not there" in line]
    assert not (sounds / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_that_is_asked_for_leaves_nothing_half_written(number, sounds, monkeypatch):
    class Ended(Halving):
        def enhance(self, blocks):
            for block in super().enhance(blocks):
                yield block
                os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    interrupted = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # jobs of a shell ignore it
    monkeypatch.setattr(enhancer, "load_enhancer", lambda *_: Ended())
    try:
        with pytest.raises(SystemExit) as end:
            run(monkeypatch, "enhance", "in/a.wav", "-o", "new/out.wav", "--model", "m")
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupted)
    assert end.value.code == 128 + number
    assert not list((sounds / "new").iterdir())
