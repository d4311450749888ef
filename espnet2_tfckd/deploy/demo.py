"""A page that enhances a recording, plays it before and after, and shows its spectrograms."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from espnet2_tfckd.data.entries import read_channel
from espnet2_tfckd.deploy.enhancer import Enhancer
from espnet2_tfckd.deploy.files import enhance_file, read_mixture
from espnet2_tfckd.scoring.spectrogram import RANGE_DB, spectrogram_db, spectrogram_png

KEPT_SECONDS = 3600  # what visitors leave behind is deleted after that
STYLE = """
.spectrogram .image-frame { width: 100% !important; }
.spectrogram img { width: 100% !important; height: 16rem !important; object-fit: fill !important; }
"""
# Browsers suppress noise in their recordings unless a page forbids it.
HEAD = """
<script>
    const devices = navigator.mediaDevices;
    if (devices) {
        const raw = {noiseSuppression: false, echoCancellation: false, autoGainControl: false};
        const request = devices.getUserMedia.bind(devices);
        devices.getUserMedia = ({audio, ...others}) =>
            request({...others, audio: audio && {...(audio === true ? {} : audio), ...raw}});
    }
</script>
"""
AUDIO_FILE = {"type": "filepath", "buttons": ["download"]}  # no button to share it with others
PICTURE = {
    "type": "pil",
    "image_mode": None,
    "format": "png",
    "interactive": False,
    "show_label": False,
    "buttons": [],
    "elem_classes": "spectrogram",
}


@dataclass(frozen=True)
class Enhanced:
    """What the page shows about a recording.

    Attributes:
        before: Spectrogram of the recording as PNG, up to half the model's sampling rate.
        after: Spectrogram of the estimate as PNG, on the same scale.
        messages: What the user should know.
    """

    before: bytes
    after: bytes
    messages: list[str]


def enhance_recording(
    enhancer: Enhancer, recording: str | Path, estimate: str | Path, channel: int = 0
) -> Enhanced:
    """Enhance a recording of any rate and number of channels, and keep its level.

    Args:
        enhancer: The model.
        recording: Audio file.
        estimate: File to write.
        channel: Channel that is shown, and that a model for one microphone takes.

    Raises:
        ValueError: If the recording cannot be enhanced; the message says why.
    """
    outcome = enhance_file(enhancer, str(recording), str(estimate), channel)
    if outcome.error:
        raise ValueError(outcome.error)
    mixture = read_mixture(str(recording), enhancer, channel)
    enhanced, rate = read_channel(str(estimate), 0)
    before = spectrogram_db(mixture[:, channel if channel < mixture.shape[1] else 0], rate)
    after = spectrogram_db(enhanced, rate)
    loudest = float(max(before.max(), after.max()))
    pictures = (spectrogram_png(levels, loudest) for levels in (before, after))
    return Enhanced(*pictures, outcome.messages)


def build_page(enhancer: Enhancer, model: str, folder: str | Path, channel: int = 0):
    """The page, ready to be launched. It sends data to nobody except its visitors.

    Args:
        enhancer: The model.
        model: What the model is called.
        folder: Where an estimate is kept until the page has a copy of it.
        channel: As for :func:`enhance_recording`.

    Returns:
        ``gradio.Blocks``.
    """
    import gradio
    from PIL import Image

    def enhance(recording: str | None) -> tuple:
        if recording is None:
            return None, None, None, ""
        estimate = str(Path(folder) / "enhanced.wav")  # one visitor at a time gets here
        try:
            enhanced = enhance_recording(enhancer, recording, estimate, channel)
        except ValueError as error:
            message = str(error).replace(recording, Path(recording).name)
            raise gradio.Error(message, duration=None, print_exception=False) from error
        pictures = (Image.open(io.BytesIO(png)) for png in (enhanced.before, enhanced.after))
        return estimate, *pictures, "; ".join(enhanced.messages)

    with gradio.Blocks(
        title="Speech enhancement", analytics_enabled=False, delete_cache=(KEPT_SECONDS,) * 2
    ) as page:
        gradio.Markdown(f"# Speech enhancement\nModel: `{model}`")
        with gradio.Row():
            recording = gradio.Audio(
                label="Before: record, or drop a file", editable=False, **AUDIO_FILE
            )
            estimate = gradio.Audio(label="After", interactive=False, **AUDIO_FILE)
        messages = gradio.Markdown()
        with gradio.Row():
            before = gradio.Image(alt_text="Spectrogram before", **PICTURE)
            after = gradio.Image(alt_text="Spectrogram after", **PICTURE)
        gradio.Markdown(
            f"Spectrograms before and after: 0 to {enhancer.sample_rate / 2000:g} kHz from bottom "
            f"to top, {RANGE_DB} dB from dark to bright, the same for both."
        )
        shown = [estimate, before, after, messages]
        recording.change(enhance, recording, shown, concurrency_limit=1)
    return page


def launch(page, host: str, port: int) -> str:
    """Start to serve the page in the background.

    Args:
        page: From :func:`build_page`.
        host: Address to listen on.
        port: Port to listen on.

    Returns:
        Address of the page.

    Raises:
        OSError: If the port is taken or not allowed.
    """
    import gradio

    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            run_history=False,
            footer_links=[],
            css=STYLE,
            head=HEAD,
            theme=gradio.themes.Default(font="system-ui", font_mono="monospace"),  # none to fetch
        )
    except OSError as error:
        raise OSError(f"{host}, port {port}, is not available: choose another --port") from error
    return address


def serve(enhancer: Enhancer, model: str, host: str, port: int, channel: int = 0) -> None:
    """Serve the page until interrupted.

    Args:
        enhancer, model, channel: As for :func:`build_page`.
        host, port: As for :func:`launch`.

    Raises:
        OSError: If the port is taken or not allowed.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = build_page(enhancer, model, folder, channel)
        print(f"Demo: {launch(page, host, port)} (Ctrl-C ends it)", flush=True)
        page.block_thread()


def check_gradio() -> None:
    """Make sure that the package that makes the page is installed.

    Raises:
        RuntimeError: If gradio is not installed; the message says how to install it.
    """
    if find_spec("gradio") is None:
        raise RuntimeError("the demo needs gradio, which is not installed: run pip install gradio")
