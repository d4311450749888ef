"""One interface for trained models of every form: from mixture to estimate, block by block."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from espnet2_tfckd.deploy.exported import check_network, read_export
from espnet2_tfckd.deploy.streaming import Blocks, enhanced_frames, enhanced_windows, separated
from espnet2_tfckd.models.configuration import CHECKPOINT, Rate, model_rate

CACHE = Path.home() / ".cache" / "espnet2_tfckd"
_FRAMES_PER_STEP = 250
_WINDOW_SECONDS, _OVERLAP_SECONDS = 30, 1


class Enhancer(ABC):
    """A model that enhances signals of any length in bounded memory.

    Attributes:
        rate: Sampling rate, with whether the model states it.
        microphones: Channels of the mixture.
        causal: Whether no frame depends on later ones.
        n_fft: Samples of a frame; for a causal model, also the algorithmic latency.
        hop_length: Samples from frame to frame.
    """

    rate: Rate
    microphones: int
    causal: bool
    n_fft: int
    hop_length: int

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.rate.hz

    @abstractmethod
    def enhance(self, blocks: Iterable[np.ndarray]) -> Blocks:
        """Enhance a signal.

        Args:
            blocks: The mixture, each block (samples, microphones), float32.

        Yields:
            The estimate, (samples,); in total as many samples as the mixture.
        """

    @abstractmethod
    def use_threads(self, number: int) -> None:
        """Limit the number of threads that this process computes on."""

    @abstractmethod
    def new_step(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return a step function of a causal network at the start of a signal.

        Returns:
            A function from complex spectra of the next frames, (T, microphones, F), to those of the
            estimate, (T, F).
        """


class TorchEnhancer(Enhancer):
    """An ESPnet enhancement model.

    A causal DPDCRN gets frames and keeps states between them. Other models get windows of 30 s that
    are cross-faded over 1 s, or the whole signal if it lasts at most 45 s.

    Args:
        exp_dir: Experiment directory.
        inference_model: Name of the checkpoint in it.
        device: As for torch.
        streaming: Take one frame at a time, as a live signal arrives; the result is the same.

    Raises:
        ValueError: If the model looks ahead but ``streaming`` is asked for, or a file of the model
            is damaged; the message names it.
        RuntimeError: If torch or ESPnet is not installed.
    """

    def __init__(
        self,
        exp_dir: str | Path,
        inference_model: str = CHECKPOINT,
        device: str = "cpu",
        streaming: bool = False,
    ):
        require_espnet(str(exp_dir))
        from espnet2_tfckd.deploy.onnx_export import has_plain_stft
        from espnet2_tfckd.models.inference import load_separate_speech

        self._separate_speech = load_separate_speech(exp_dir, inference_model, device)
        self.model = self._separate_speech.enh_model
        separator = self.model.separator
        self.rate = model_rate(vars(self._separate_speech.enh_train_args))
        self.microphones = getattr(separator, "microphones", getattr(separator, "n_imics", 1))
        self.causal = getattr(separator, "causal", False) and has_plain_stft(self.model)
        if streaming and not self.causal:
            raise ValueError(
                f"{exp_dir} looks ahead and cannot be run frame by frame: leave --streaming out, "
                "or train a model with separator_conf.causal: true"
            )
        stft = getattr(self.model.encoder, "stft", None)
        self.n_fft, self.hop_length = (stft.n_fft, stft.hop_length) if stft else (0, 0)
        self._frames_per_step = 1 if streaming else _FRAMES_PER_STEP

    def enhance(self, blocks: Iterable[np.ndarray]) -> Blocks:
        if not self.causal:
            return enhanced_windows(
                blocks,
                self.microphones,
                self.enhance_at_once,
                _WINDOW_SECONDS * self.sample_rate,
                _OVERLAP_SECONDS * self.sample_rate,
            )
        return enhanced_frames(
            blocks,
            self.microphones,
            self.new_step(),
            self.n_fft,
            self.hop_length,
            self._frames_per_step,
        )

    def use_threads(self, number: int) -> None:
        import torch

        torch.set_num_threads(number)

    def new_step(self) -> Callable[[np.ndarray], np.ndarray]:
        return _Steps(self.model.separator, self._separate_speech.device)

    def enhance_at_once(self, window: np.ndarray) -> np.ndarray:
        """Enhance a signal (samples, microphones) to (samples,) by ESPnet's inference."""
        return separated(self._separate_speech, window, self.sample_rate)


class _Steps:
    """A causal separator and its states: from spectra (T, M, F) to the estimate's (T, F)."""

    def __init__(self, separator, device: str):
        self.separator, self.device, self.states = separator, device, None

    def __call__(self, spectrum: np.ndarray) -> np.ndarray:
        import torch

        frames = torch.from_numpy(spectrum.astype(np.complex64))[None].to(self.device)
        with torch.inference_mode():
            (estimate,), self.states, _ = self.separator.forward_streaming(frames, self.states)
        return estimate[0].cpu().numpy()


class OnnxEnhancer(Enhancer):
    """An exported model; if it looks ahead, it gets windows as in :class:`TorchEnhancer`.

    Args:
        folder: Folder of stage 12.
        streaming: Require that one frame is taken at a time.

    Raises:
        ValueError: If the folder holds no usable export, or the model looks ahead but ``streaming``
            is asked for.
    """

    def __init__(self, folder: str | Path, streaming: bool = False):
        self._folder = Path(folder)
        self.meta = read_export(self._folder)
        self.rate = Rate(self.meta["sample_rate"], not self.meta.get("sample_rate_assumed"))
        self.microphones = self.meta["microphones"]
        self.n_fft, self.hop_length = self.meta["n_fft"], self.meta["hop_length"]
        self.causal = "streaming" in self.meta["models"]
        if streaming and not self.causal:
            raise ValueError(f"{folder} holds no streaming model: leave --streaming out")
        check_network(self._folder, self.meta, "streaming" if self.causal else "offline")
        self._idle = []  # networks that no signal is running through: loading takes a while

    def enhance(self, blocks: Iterable[np.ndarray]) -> Blocks:
        try:
            network = self._idle.pop()
        except IndexError:
            network = self._load()
        network.reset()
        try:
            yield from self._enhanced(network, blocks)
        finally:
            self._idle.append(network)

    def _enhanced(self, network, blocks: Iterable[np.ndarray]) -> Blocks:
        if not self.causal:
            return enhanced_windows(
                blocks,
                self.microphones,
                _reported(network.enhance, self._folder),
                _WINDOW_SECONDS * self.sample_rate,
                _OVERLAP_SECONDS * self.sample_rate,
            )
        step = _reported(network.step, self._folder)
        return enhanced_frames(blocks, self.microphones, step, self.n_fft, self.hop_length, 1)

    def use_threads(self, number: int) -> None:
        """Does nothing: the networks run on one thread."""

    def new_step(self) -> Callable[[np.ndarray], np.ndarray]:
        return _reported(self._load().step, self._folder)

    def _load(self):
        from espnet2_tfckd.deploy.onnx_enhance import ExportedModel

        return ExportedModel(self._folder)


def _reported(run: Callable, folder: Path) -> Callable:
    """Turn errors of onnxruntime into a kind that a command line reports."""

    def reported(signal: np.ndarray) -> np.ndarray:
        try:
            return run(signal)
        except (ValueError, RuntimeError):
            raise
        except Exception as error:
            raise RuntimeError(f"the network of {folder} fails: {error}") from error

    return reported


def load_enhancer(
    model: str,
    device: str = "cpu",
    streaming: bool = False,
    fs: int | None = None,
) -> Enhancer:
    """Load a model of any form.

    Args:
        model: Experiment directory, folder of an ONNX export, packed ``.zip``, or id on the hub.
        device: As for torch.
        streaming: Take one frame at a time.
        fs: The model's sampling rate in Hz, for one that does not state it.

    Raises:
        FileNotFoundError: If the file or folder is not there.
        ValueError: If it holds no usable model, if streaming is asked for and the model looks
            ahead, or if it states another rate than ``fs``.
        ConnectionError: If the hub cannot be reached or has no such model.
        RuntimeError: If it is not an ONNX export, and torch or ESPnet is not installed.
    """
    folder = model_folder(model)
    if (folder / "meta.json").is_file():
        enhancer = OnnxEnhancer(folder, streaming)
    else:
        with redirect_stdout(sys.stderr):  # keep what ESPnet prints on import out of the output
            enhancer = TorchEnhancer(folder, CHECKPOINT, device, streaming)
    if fs is not None:
        if enhancer.rate.stated and enhancer.rate.hz != fs:
            raise ValueError(f"{model} works at {enhancer.rate}, not at {fs} Hz: leave --fs out")
        enhancer.rate = Rate(fs, True)
    return enhancer


def require_espnet(model: str) -> None:
    """Make sure that torch and ESPnet, which run an ESPnet model, are installed.

    Raises:
        RuntimeError: If torch or ESPnet is not installed; the message says how to install it.
    """
    if missing := [name for name in ("torch", "espnet2") if find_spec(name) is None]:
        raise RuntimeError(
            f"{model} is an ESPnet model, for which {' and '.join(missing)} must be installed: run "
            "pip install espnet2_tfckd, or use the model's ONNX export, which needs neither torch "
            "nor ESPnet"
        )


def model_folder(model: str) -> Path:
    """Folder of a model; a published or packed model is fetched and unpacked first.

    Raises:
        As :func:`load_enhancer`.
    """
    folder = Path(model)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("meta.json", "config.yaml")):
            raise ValueError(
                f"{model} holds no model: neither config.yaml of an experiment nor meta.json of an "
                "ONNX export"
            )
        return folder
    is_zip = folder.suffix.lower() == ".zip"
    if not is_zip and folder.exists():
        raise ValueError(
            f"{model} holds no model: name an experiment directory, the folder of an ONNX export "
            "or a packed .zip"
        )
    if not is_zip and (model.count("/") != 1 or model.startswith((".", "/", "~"))):
        raise FileNotFoundError(
            f"{model} is not there: name an experiment directory, the folder of an ONNX export, a "
            "packed .zip, or <user>/<model> on the hub"
        )
    require_espnet(model)
    from espnet2_tfckd.models.published import fetch_model

    identity = str(folder.resolve()) if is_zip else model
    name = f"{folder.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    try:
        with redirect_stdout(sys.stderr):  # as in load_enhancer
            return fetch_model(model, CACHE / name, CHECKPOINT)
    except ConnectionError as error:
        raise ConnectionError(f"there is no folder {model}, and {error}") from error
