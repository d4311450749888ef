"""A headless Chromium for the tests of what is looked at in a browser."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--autoplay-policy=no-user-gesture-required --window-size=1280,1400"
)
MICROPHONE_FLAGS = "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
PATIENCE_SECONDS = 60  # busy machines take their time


@contextmanager
def open_browser(microphone: Path | None = None) -> Iterator:
    """Yield a driver of a browser with a fresh profile; skip the test where there is none.

    Args:
        microphone: Audio file that the browser hears, over and over, when it records; by default it
            has no microphone.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("chromium and chromium-driver are not installed (apt-get install them)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = [*FLAGS.split(), f"--user-data-dir={profile}"]
        if microphone:
            flags += MICROPHONE_FLAGS.split()
            flags.append(f"--use-file-for-fake-audio-capture={microphone}")
        for flag in flags:
            options.add_argument(flag)
        driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
        driver.set_script_timeout(PATIENCE_SECONDS)
        try:
            yield driver
        finally:
            driver.quit()


def wait_until(driver, condition: str):
    """Wait until a JavaScript expression is true, and return its value."""
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(driver, PATIENCE_SECONDS)
    return wait.until(lambda d: d.execute_script(f"return {condition}"), condition)
