"""A tiny corpus in the shape of VoiceBank-DEMAND, from seeded noise that swells like syllables."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import soundfile

RATE = 48000
SPEAKERS = {"trainset_28spk": ("p226", "p228", "p230", "p287"), "testset": ("p232", "p257")}
TAKES = 2


def write_tree(root: Path, seconds: float = 0.5, snr: float = 10.0) -> Path:
    """Write four folders with wav files and two with transcripts; every mixture has that SNR."""
    for number, (part, speakers) in enumerate(SPEAKERS.items()):
        folders = [root / f"{kind}_{part}_wav" for kind in ("noisy", "clean")]
        text = root / f"{part}_txt"
        for folder in (*folders, text):
            folder.mkdir(parents=True, exist_ok=True)
        for speaker in speakers:
            for take in range(1, TAKES + 1):
                name = f"{speaker}_{take:03d}"
                rng = np.random.default_rng([number, int(speaker[1:]), take])
                clean = _syllables(rng, round((seconds + 0.01 * take) * RATE))
                noise = _below_4_khz(rng, len(clean))
                noise -= noise @ clean / (clean @ clean) * clean  # SI-SDR is then the SNR
                noise *= np.linalg.norm(clean) / np.linalg.norm(noise) * 10 ** (-snr / 20)
                for folder, signal in zip(folders, (clean + noise, clean), strict=True):
                    soundfile.write(folder / f"{name}.wav", signal, RATE, "PCM_16")
                (text / f"{name}.txt").write_text(f"Please call\n {speaker}. ")
    return root


def _below_4_khz(rng: np.random.Generator, length: int) -> np.ndarray:
    """Noise (T,) of which resampling to 16 kHz takes nothing away."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum[np.fft.rfftfreq(length, 1 / RATE) > 4000] = 0
    return np.fft.irfft(spectrum, length)


def _syllables(rng: np.random.Generator, length: int) -> np.ndarray:
    """Noise that swells and fades eight times a second, (T,)."""
    envelope = np.abs(np.sin(2 * np.pi * 4 * np.arange(length) / RATE))
    signal = _below_4_khz(rng, length) * envelope
    return 0.05 * signal / np.sqrt((signal**2).mean())


def zip_folder(folder: Path) -> None:
    """Replace a folder by its zip, in which the files lie in a folder of that name."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{folder.name}/{path.name}")
        archive.writestr(f"__MACOSX/{folder.name}/._{path.name}", "no audio")
    shutil.rmtree(folder)
