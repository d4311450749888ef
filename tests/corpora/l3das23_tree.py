"""A tiny corpus in the shape of L3DAS23 task 1 as Kaggle's client leaves it, of simulated rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from tests.ambisonics import RATE, Scene, coloured_noise, simulate_scene, syllables

# Speakers 96 and 105 are those that the recipe holds out for validation.
PARTS = {
    "train_100": ("14-208-0000", "14-208-0001", "96-1-0000"),
    "train_360_part1": ("16-3-0000", "105-7-0000"),
    "train_360_part2": ("17-5-0000",),
    "dev": ("84-121123-0000", "84-121123-0001"),
}
TRANSCRIPT = "HE HOPED\n THERE WOULD BE STEW"


def folder_of(root: Path, part: str) -> Path:
    """The folder with ``data`` and ``labels`` of a part: one of the same name in a first one."""
    return root / f"L3DAS23_Task1_{part}" / f"L3DAS23_Task1_{part}"


def write_tree(root: Path, seconds: float = 1.0) -> Path:
    """Write the four folders; every utterance a talker in a room with one source of noise."""
    number = 0
    for part, names in PARTS.items():
        folder = folder_of(root, part)
        for name in names:
            rng = np.random.default_rng(number)
            length = round((seconds + 0.1 * (number % 3)) * RATE)
            signals = syllables(rng, length), coloured_noise(rng, length)
            write_utterance(folder, name, simulate_scene(rng, *signals, snr_db=3, num_mics=2))
            number += 1
        rows = "".join(f"{name}_A.wav,image{number}.png\n" for name in names)
        (folder / "audio_image.csv").write_text(rows)
        (folder / "info.csv").write_text("".join(f"{name}\n" for name in names))
    return root


def write_utterance(folder: Path, name: str, scene: Scene) -> None:
    """Write the four files of an utterance that two microphones recorded."""
    for kind in ("data", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for mic, signal in zip("AB", np.split(scene.mixture, 2, axis=1), strict=True):
        soundfile.write(folder / "data" / f"{name}_{mic}.wav", signal, RATE, "PCM_16")
    soundfile.write(folder / "labels" / f"{name}.wav", scene.reference, RATE, "PCM_16")
    (folder / "labels" / f"{name}.txt").write_text(TRANSCRIPT)
