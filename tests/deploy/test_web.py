"""The page that enhances in the browser, in headless Chromium with the real onnxruntime-web."""

import json
import shutil
import subprocess
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.deploy import command
from espnet2_tfckd.deploy.onnx_enhance import ExportedModel
from espnet2_tfckd.deploy.pretrained import DEFAULT_MODEL
from espnet2_tfckd.deploy.web_page import PAGE_FILES, RUNTIME_FILES, Handler, write_page
from tests.browser import open_browser, wait_until

RATE = 16000


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """Where onnxruntime-web is installed."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("runtime")
    install = ["npm", "install", "--no-audit", "--no-fund", "onnxruntime-web@1.30.0"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"onnxruntime-web cannot be fetched: {done.stderr[-200:]}")
    return folder


@pytest.fixture
def fake_runtime(tmp_path):
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in RUNTIME_FILES:
        (folder / name).write_text(name)
    return folder


def served(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def noisy_speech(seconds):
    rng = np.random.default_rng(0)
    syllables = np.resize(np.repeat([1.0, 0.1], RATE // 8), seconds * RATE)
    return (0.1 * rng.standard_normal(len(syllables)) * syllables).astype(np.float32)


def test_a_file_is_enhanced_as_in_python_and_the_microphone_in_time(runtime, tmp_path):
    page = write_page(DEFAULT_MODEL, runtime, tmp_path / "web")
    noisy = noisy_speech(seconds=3)[:-100]  # not a whole number of frames
    soundfile.write(tmp_path / "noisy.wav", noisy, RATE, "FLOAT")
    server = served(page.parent)
    with open_browser(microphone=tmp_path / "noisy.wav") as driver:
        driver.get(f"http://127.0.0.1:{server.server_port}/")
        wait_until(driver, "window.isReady")
        status = driver.find_element("id", "status").text
        assert "38,286 parameters" in driver.find_element("id", "model").text, status
        driver.find_element("id", "file").send_keys(str(tmp_path / "noisy.wav"))
        wait_until(driver, "window.outcome !== undefined")
        heard, enhanced, factor = driver.execute_script(
            "return [[...outcome.noisy], [...outcome.enhanced], outcome.factor]"
        )
        np.testing.assert_allclose(heard, noisy, atol=1e-6)
        expected = ExportedModel(DEFAULT_MODEL).enhance(noisy[:, None])
        assert np.abs(np.array(enhanced) - expected).max() < 1e-4 * np.abs(expected).max()
        assert factor > 0 and "real-time factor" in driver.find_element("id", "status").text
        driver.find_element("id", "live").click()
        wait_until(driver, "window.live && window.live.samples > 8000")
        driver.find_element("id", "live").click()
        wait_until(driver, "document.getElementById('live').textContent === 'start'")
        assert driver.find_element("id", "status").text == ""
        text = tmp_path / "text.wav"
        text.write_text("no audio")
        driver.find_element("id", "file").send_keys(str(text))
        wait_until(driver, "document.getElementById('status').className === 'error'")
        assert "text.wav holds no audio" in driver.find_element("id", "status").text
    server.shutdown()


def test_streaming_gives_what_the_whole_signal_gives(runtime, tmp_path):
    page = write_page(DEFAULT_MODEL, runtime, tmp_path / "web")
    server = served(page.parent)
    script = """
        const done = arguments[arguments.length - 1];
        (async () => {
            const ort = await import("./ort.wasm.bundle.min.mjs");
            const { Enhancer, Stream } = await import("./enhancer.js");
            const enhancer = await Enhancer.load(ort, "model");
            const signal = Float32Array.from({ length: 8192 }, (_, n) => Math.sin(n * n / 9e3));
            const whole = await enhancer.enhance(signal);
            // what enhance() sees before the signal: its mirror image
            const before = Float32Array.from({ length: 256 }, (_, n) => signal[256 - n]);
            const stream = new Stream(enhancer);
            const blocks = [];
            const padded = [...before, ...signal];
            for (let at = 256; at < padded.length; at += 256) {
                if (at === 256) { // the first window has two blocks
                    stream.recent.set(before, 256);
                }
                blocks.push(...await stream.push(padded.slice(at, at + 256)));
            }
            done([[...whole], blocks]);
        })().catch((error) => done(String(error)));
    """
    with open_browser() as driver:
        driver.get(f"http://127.0.0.1:{server.server_port}/")
        wait_until(driver, "window.isReady")
        answer = driver.execute_async_script(script)
        assert not isinstance(answer, str), answer
        whole, blocks = map(np.array, answer)
    server.shutdown()
    # the first block is of the mirror image; after it, the stream is one block behind
    np.testing.assert_allclose(blocks[256:], whole[: len(blocks) - 256], atol=1e-5)


def test_the_folder_holds_page_model_and_runtime_and_is_only_replaced_if_ours(
    fake_runtime, tmp_path, capsys
):
    folder = tmp_path / "web"
    arguments = ["web", "--runtime", str(fake_runtime), "--output", str(folder)]
    for _ in range(2):
        args = command.get_parser().parse_args(arguments)
        args.run(args)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {*PAGE_FILES, *RUNTIME_FILES, "model/meta.json", "model/streaming.onnx"} <= files
    assert str(folder / "index.html") in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("of the user")
    with pytest.raises(ValueError, match="holds files that this command did not write"):
        write_page(DEFAULT_MODEL, fake_runtime, tmp_path / "mine")


def test_what_is_missing_is_named_with_the_remedy(fake_runtime, causal_exp, tmp_path):
    with pytest.raises(FileNotFoundError, match="npm install onnxruntime-web"):
        write_page(DEFAULT_MODEL, tmp_path, tmp_path / "web")
    with pytest.raises(FileNotFoundError, match="export the model first"):
        write_page(causal_exp, fake_runtime, tmp_path / "web")
    meta = json.loads((DEFAULT_MODEL / "meta.json").read_text())
    shutil.copytree(DEFAULT_MODEL, tmp_path / "model")
    (tmp_path / "model/meta.json").write_text(json.dumps({**meta, "n_fft": 320}))
    with pytest.raises(ValueError, match="n_fft is 320, and the page needs a power of two"):
        write_page(tmp_path / "model", fake_runtime, tmp_path / "web")
    assert not (tmp_path / "web").exists()


def test_the_page_names_no_address_elsewhere():
    folder = Path(command.__file__).parent / "web"
    for path in folder.iterdir():
        assert "http://" not in path.read_text() and "https://" not in path.read_text()
