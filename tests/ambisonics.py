"""Simulated rooms with first-order Ambisonics microphones: AmbiX, so W, Y, Z, X in SN3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from scipy.signal import fftconvolve

pra = pytest.importorskip("pyroomacoustics", reason="extra test: pip install -e '.[test]'")

RATE = 16000
MAX_ORDER = 12  # of reflections: enough for a decay, and fast


def room_responses(
    room: Sequence[float],
    sources: Sequence[np.ndarray],
    microphone: np.ndarray,
    absorption: float,
    max_order: int = MAX_ORDER,
) -> list[np.ndarray]:
    """Impulse responses from some sources to a microphone of four coincident capsules.

    An omnidirectional capsule and three figures of eight along +y, +z and +x at one point are W, Y,
    Z and X; the direct sound of all four has gain 1 / distance on a capsule's axis.

    Args:
        room: Length, width and height in metres.
        sources: Positions in metres.
        microphone: Its position.
        absorption: Energy that a wall takes, 0 to 1.
        max_order: Highest number of reflections; 0 leaves the direct sound alone.

    Returns:
        For each source an array (taps, 4).
    """
    pra.constants.set("num_threads", 1)
    simulated = pra.ShoeBox(
        room, fs=RATE, materials=pra.Material(absorption), max_order=max_order, air_absorption=False
    )
    for source in sources:
        simulated.add_source(source)
    axes = np.eye(3)[[1, 2, 0]]  # Y, Z, X
    eights = [pra.directivities.FigureEight(axis) for axis in axes]
    capsules = [pra.directivities.Omnidirectional(), *eights]
    positions = np.repeat(np.asarray(microphone)[:, None], len(capsules), axis=1)
    simulated.add_microphone_array(pra.MicrophoneArray(positions, RATE, directivity=capsules))
    simulated.compute_rir()
    responses = []
    for number in range(len(sources)):
        of_capsules = [simulated.rir[capsule][number] for capsule in range(len(capsules))]
        taps = max(map(len, of_capsules))
        responses.append(np.stack([np.pad(h, (0, taps - len(h))) for h in of_capsules], axis=1))
    return responses


def direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector (x, y, z) of angles in degrees: azimuth from +x towards +y, elevation upwards."""
    azimuth, elevation = np.radians([azimuth, elevation])
    horizontal = np.cos(elevation)
    return np.array([horizontal * np.cos(azimuth), horizontal * np.sin(azimuth), np.sin(elevation)])


def convolve(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    """(T,) with (taps, M) to (T, M)."""
    return fftconvolve(signal[:, None], response, axes=0)[: len(signal)]


class Scene(NamedTuple):
    """A recorded talker in noise.

    Attributes:
        mixture: (T, 4 for each microphone), with a peak of 0.5.
        reference: (T,), the dry speech with level and delay of its direct sound in W of the first
            microphone.
        talker: Position in metres.
        microphones: Positions in metres.
    """

    mixture: np.ndarray
    reference: np.ndarray
    talker: np.ndarray
    microphones: list[np.ndarray]


def simulate_scene(
    rng: np.random.Generator,
    speech: np.ndarray,
    noise: np.ndarray,
    snr_db: float,
    *,
    num_mics: int = 1,
    max_order: int = MAX_ORDER,
    talker_azimuths: tuple[float, float] = (-180, 180),
    noise_azimuths: tuple[float, float] = (-180, 180),
) -> Scene:
    """Put a talker and a source of noise (T,) into a random room.

    A second microphone is 20 cm beside the first. The signal-to-noise ratio is that of the direct
    sound of the speech to all of the noise, in W of the first microphone.
    """
    room = rng.uniform([5, 5, 2.7], [8, 7, 3.3])
    first = room / 2 + rng.uniform(-0.3, 0.3, 3)
    microphones = [first, first - [0.2, 0, 0]][:num_mics]
    talker, noise_source = (
        first + rng.uniform(1, 2) * direction(rng.uniform(*azimuths), rng.uniform(-25, 25))
        for azimuths in (talker_azimuths, noise_azimuths)
    )
    absorption = rng.uniform(0.3, 0.6)
    direct = room_responses(room, [talker], first, absorption, max_order=0)[0][:, 0]
    reference = convolve(speech, direct[:, None])[:, 0]
    responses = [
        room_responses(room, [talker, noise_source], at, absorption, max_order)
        for at in microphones
    ]
    speech_parts, noise_parts = (
        np.concatenate([convolve(signal, of_mic[number]) for of_mic in responses], axis=1)
        for number, signal in enumerate((speech, noise))
    )
    ratio = (reference**2).mean() / max((noise_parts[:, 0] ** 2).mean(), 1e-12)
    mixture = speech_parts + noise_parts * np.sqrt(ratio) * 10 ** (-snr_db / 20)
    gain = 0.5 / np.abs(mixture).max()
    return Scene(gain * mixture, gain * reference, talker, microphones)


def syllables(rng: np.random.Generator, length: int) -> np.ndarray:
    """Something like speech: voiced syllables, four a second, each with its own pitch and vowel."""
    time = np.arange(length) / RATE
    starts = np.arange(0, length, RATE // 4)
    signal = np.zeros(length)
    for start in starts:
        pitch, formants = rng.uniform(90, 220), rng.uniform([300, 900, 2200], [800, 2000, 3000])
        inside = slice(start, start + RATE // 4)
        for harmonic in range(1, int(4000 / pitch)):
            frequency = harmonic * pitch
            level = np.exp(-(((frequency - formants) / 200) ** 2)).sum() + 0.02
            signal[inside] += level * np.sin(2 * np.pi * frequency * time[inside])
    return (
        signal
        * np.sin(2 * np.pi * 2 * time) ** 2
        * (rng.random(len(starts)) > 0.2).repeat(RATE // 4)[:length]
    )


def coloured_noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """Noise with the long-term spectrum of speech, roughly, that swells and fades slowly."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum /= 1 + np.fft.rfftfreq(length, 1 / RATE) / 500
    time = np.arange(length) / RATE
    return np.fft.irfft(spectrum, length) * (1 + 0.5 * np.sin(2 * np.pi * rng.random() + 3 * time))
