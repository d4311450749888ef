"""The demo page: what it does with a recording, and in a browser."""

from __future__ import annotations

import io
import json
import socket
import sys
import time

import numpy as np
import pytest
import soundfile
from PIL import Image

from espnet2_tfckd.deploy import command, demo
from espnet2_tfckd.deploy.enhancer import Enhancer
from espnet2_tfckd.models.configuration import Rate
from tests.browser import open_browser, wait_until

RATE = 16000


class Halving(Enhancer):
    """Halves every sample of its only channel."""

    rate, microphones, causal = Rate(RATE, True), 1, True

    def enhance(self, blocks):
        for block in blocks:
            yield block[:, 0] / 2

    def use_threads(self, number):
        pass

    def new_step(self):
        return lambda spectrum: spectrum[:, 0] / 2


@pytest.fixture
def tone(tmp_path):
    """Function that writes a second of a tone at some rate, in each of some channels louder."""

    def write(rate, channels, suffix=".wav"):
        sine = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
        path = tmp_path / f"tone{suffix}"
        soundfile.write(path, sine[:, None] * np.linspace(0.2, 0.8, channels), rate)
        return path

    return write


class TestRecording:
    @pytest.mark.parametrize(
        ("rate", "channels", "suffix", "channel", "level"),
        [(RATE, 1, ".wav", 0, 0.2), (48000, 2, ".flac", 1, 0.8), (8000, 3, ".wav", 1, 0.5)],
    )
    def test_any_rate_and_channel_is_enhanced_at_its_level(
        self, tone, tmp_path, rate, channels, suffix, channel, level
    ):
        estimate = tmp_path / "estimate.wav"
        recording = tone(rate, channels, suffix)
        demo.enhance_recording(Halving(), recording, estimate, channel)
        samples, estimate_rate = soundfile.read(estimate)
        assert (samples.shape, estimate_rate) == ((RATE,), RATE)
        assert np.abs(samples[1000:-1000]).max() == pytest.approx(level / 2, rel=0.01)

    def test_both_spectrograms_are_on_one_scale(self, tone, tmp_path):
        enhanced = demo.enhance_recording(Halving(), tone(48000, 1), tmp_path / "estimate.wav")
        before, after = (
            np.asarray(Image.open(io.BytesIO(png))) for png in (enhanced.before, enhanced.after)
        )
        assert before.shape == after.shape
        assert after.max() < before.max() == 31  # 6 dB below the brightest
        middle = before[:, before.shape[1] // 2]
        assert (len(middle) - 1 - middle.argmax()) / len(middle) * 8000 == pytest.approx(
            1000, abs=32
        )

    def test_what_was_adapted_is_said(self, tone, tmp_path):
        enhanced = demo.enhance_recording(Halving(), tone(48000, 2), tmp_path / "estimate.wav")
        assert enhanced.messages == [
            "48000 Hz, resampled to the model's 16000 Hz",
            "2 channels, of which channel 0 is taken",
        ]

    def test_what_cannot_be_enhanced_is_refused(self, tone, tmp_path):
        (tmp_path / "notes.txt").write_text("no audio")
        with pytest.raises(ValueError, match=r"notes\.txt is not readable audio"):
            demo.enhance_recording(Halving(), tmp_path / "notes.txt", tmp_path / "estimate.wav")
        with pytest.raises(ValueError, match="there is no channel 2"):
            demo.enhance_recording(Halving(), tone(RATE, 2), tmp_path / "estimate.wav", 2)


class TestCommandLine:
    def test_without_gradio_it_says_how_to_install_it(self, monkeypatch, capsys):
        monkeypatch.setattr(demo, "find_spec", lambda name: None)
        monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", "demo", "--model", "m"])
        with pytest.raises(SystemExit, match="1"):
            command.main()
        assert "pip install gradio" in capsys.readouterr().err

    def test_the_model_is_loaded_as_for_enhance_and_served_to_this_machine(self, monkeypatch):
        loaded, served = [], []
        monkeypatch.setattr(demo, "check_gradio", lambda: None)
        monkeypatch.setattr(demo, "serve", lambda *arguments: served.append(arguments))
        monkeypatch.setattr(
            "espnet2_tfckd.deploy.enhancer.load_enhancer",
            lambda *arguments: loaded.append(arguments),
        )
        options = "demo --model m --streaming --device cuda --channel 1 --port 8000"
        monkeypatch.setattr(sys, "argv", ["espnet2-tfckd", *options.split()])
        command.main()
        assert loaded == [("m", "cuda", True, None)]
        assert served == [(None, "m", "127.0.0.1", 8000, 1)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser whose microphone hears a tone of full scale / 2."""
    microphone = tmp_path_factory.mktemp("microphone") / "tone.wav"
    seconds = np.arange(48000) / 48000
    soundfile.write(microphone, 0.5 * np.sin(2 * np.pi * 1000 * seconds), 48000)
    with open_browser(microphone) as driver:
        yield driver


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the page is served."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    folder = tmp_path_factory.mktemp("estimates")
    page = demo.build_page(Halving(), "exp/enh_student", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield demo.launch(page, "127.0.0.1", port)
    page.close()


def test_a_port_that_is_taken_is_refused(address, tmp_path):
    port = int(address.rstrip("/").rpartition(":")[2])
    page = demo.build_page(Halving(), "exp/enh_student", tmp_path)
    with pytest.raises(OSError, match=f"port {port}, is not available: choose another --port"):
        demo.launch(page, "127.0.0.1", port)


class TestInTheBrowser:
    @pytest.fixture
    def page(self, browser, address):
        browser.get("about:blank")
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(address)
        wait_until(browser, "document.querySelector('input[type=file]')")
        return browser

    def upload(self, page, path):
        page.find_element("css selector", "input[type=file]").send_keys(str(path))

    def click(self, page, button):
        visible = f"[...document.querySelectorAll('{button}')].find(b => b.checkVisibility())"
        wait_until(page, visible).click()

    def peaks(self, page, name):
        """The highest sample of every 0.1 s of the audio file that can be downloaded."""
        links = "[...document.querySelectorAll('a[download]')]"
        link = wait_until(page, f"{links}.find(a => /{name}/.test(a.href))")
        samples, rate = page.execute_async_script(
            "const done = arguments[1];"
            "fetch(arguments[0].href).then(r => r.arrayBuffer())"
            ".then(b => new AudioContext().decodeAudioData(b))"
            ".then(a => done([[...a.getChannelData(0)], a.sampleRate]))",
            link,
        )
        step = rate // 10
        return [max(samples[i : i + step]) for i in range(0, len(samples) - step + 1, step)]

    def test_an_upload_is_heard_and_seen_before_and_after(self, page, tone):
        self.upload(page, tone(48000, 2))
        wait_until(page, "document.querySelectorAll('.spectrogram img').length === 2")
        pictures = "[...document.querySelectorAll('.spectrogram img')]"
        wait_until(page, f"{pictures}.every(i => i.complete && i.naturalWidth > 0)")
        names = page.execute_script(f"return {pictures}.map(i => i.alt)")
        assert names == ["Spectrogram before", "Spectrogram after"]
        assert self.peaks(page, "enhanced") == pytest.approx([0.1] * 10, rel=0.05)
        assert "2 channels, of which channel 0 is taken" in page.page_source
        assert len(page.find_elements("css selector", "[aria-label=Play], [title=Play]")) == 2

    def test_what_the_microphone_hears_is_recorded_as_it_is(self, page):
        self.click(page, '[aria-label="Record audio"]')
        self.click(page, ".record-button")
        time.sleep(3)  # of recording: browsers would have suppressed the tone by then
        self.click(page, ".stop-button")
        wait_until(page, "document.querySelectorAll('.spectrogram img').length === 2")
        peaks = self.peaks(page, "enhanced")[5:-5]
        assert len(peaks) > 10
        assert peaks == pytest.approx([0.25] * len(peaks), rel=0.1)

    def test_what_is_no_audio_is_refused_by_name(self, page, tmp_path):
        (tmp_path / "noise.wav").write_bytes(b"RIFF, but nothing else")
        self.upload(page, tmp_path / "noise.wav")
        wait_until(page, "/noise.wav is not readable audio/.test(document.body.textContent)")
        assert not page.find_elements("css selector", ".spectrogram img")

    def test_nothing_comes_from_elsewhere_and_nothing_fails(self, page, address, tone):
        self.upload(page, tone(RATE, 1))
        wait_until(page, "document.querySelectorAll('.spectrogram img').length === 2")
        assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
        events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
        urls = {
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        }
        assert len(urls) > 5
        assert all(url.startswith((address, "data:", "blob:")) for url in urls)
