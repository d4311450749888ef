"""A tiny tree in the shapes of the DNS Challenges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
READERS = 6
FOLDERS = {
    "first": ("datasets/clean", "datasets/noise"),
    "third": ("datasets/clean/read_speech", "datasets/noise"),
    "fullband": (
        "datasets_fullband/clean_fullband/read_speech",
        "datasets_fullband/noise_fullband",
    ),
    "fourth": ("datasets/read_speech", "datasets/noise"),
}


def speech_like(seconds: float, rng: np.random.Generator) -> np.ndarray:
    syllables = np.resize(np.repeat([1.0, 0.05, 0.6, 0.02], RATE // 10), round(seconds * RATE))
    return 0.1 * rng.standard_normal(len(syllables)) * syllables


def write_tree(root: Path, layout: str, seconds: float = 3.0, with_tests: bool = True) -> Path:
    """Six readers with three recordings each, twelve noises, three rooms, two synthetic tests."""
    rng = np.random.default_rng(0)
    speech, noise = (root / folder for folder in FOLDERS[layout])
    for reader in range(READERS):
        for n in range(3):
            name = f"book_0000{n}_chp_0009_reader_0{reader}709_{n}.wav"
            _write(speech / name, speech_like(seconds, rng))
    for n in range(12):  # every other one in stereo
        _write(noise / f"fan {n}.wav", 0.05 * rng.standard_normal((2 * RATE, 1 + n % 2)))
    for n in range(3):
        room = np.exp(-np.arange(4000) / 400) * rng.standard_normal(4000) * 0.2
        room[50] = 1
        _write(root / "datasets" / "impulse_responses" / "SLR26" / f"room{n}.wav", room)
    for reverb in ("no_reverb", "with_reverb") if with_tests else ():
        folder = noise.parent / "test_set" / "synthetic" / reverb
        for n in (0, 7):
            clean = speech_like(1, rng)
            noisy = clean + 0.02 * rng.standard_normal(len(clean))
            _write(folder / "clean" / f"clean_fileid_{n}.wav", clean)
            _write(folder / "noisy" / f"clnsp1_train_69005_1_snr15_tl-21_fileid_{n}.wav", noisy)
    return root


def _write(path: Path, signal: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, RATE)
