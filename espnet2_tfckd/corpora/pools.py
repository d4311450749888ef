"""Pools of speech clips and of noise that a corpus is mixed from, at 16 kHz mono float32."""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.signal import butter, firwin2, lfilter, sosfilt, welch

from espnet2_tfckd.corpora.inspection import CLIPPED, clipped_share
from espnet2_tfckd.corpora.mixing import active_power, frame_levels, loop_excerpt, trim
from espnet2_tfckd.data.audio import SUFFIXES, read_audio
from espnet2_tfckd.data.decoding import open_audio
from espnet2_tfckd.data.entries import SILENCE

RATE = 16000
SHORTEST, STANDALONE, LONGEST = 2.0, 3.0, 6.0  # seconds
LOWEST_VOICE = 70.0  # Hz
QUIETEST = -100.0  # dB: no frame of a silent recording is louder
DRAWS = 10  # of noise, before it is called silent
MOST_TALKERS = 8  # at once, in babble

SpeechClip = tuple[np.ndarray, list[Path]]


def read_mono(path: str | Path) -> np.ndarray:
    """Decode a file to 16 kHz mono float32, (T,).

    Raises:
        OSError: If the file is missing or must not be read.
        ValueError: If the file cannot be decoded or holds NaN; the message names it.
    """
    try:
        samples, rate = read_audio(path)
    except ValueError as error:
        raise ValueError(f"{error}: replace or remove it") from error
    if not np.isfinite(samples).all():
        raise ValueError(f"{path} holds samples that are not numbers: replace or remove it")
    mono = samples.mean(axis=1)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE).astype(np.float32)


def is_wideband(path: Path) -> bool:
    """True if a recording has at least the corpus' sampling rate.

    Raises:
        As :func:`read_mono`.
    """
    with open_audio(path) as audio:
        return audio.rate >= RATE


def read_opensfx(archive: str | Path, title: str) -> np.ndarray:
    """The first sound of OpenTTD's sound archive whose title starts with ``title``, (T,).

    The archive is a table of (offset, length) pairs; each entry is a title (one length byte, text,
    a zero) and a RIFF file.
    """
    data = Path(archive).read_bytes()
    entries = (struct.unpack_from("<I", data)[0] & 0x7FFFFFFF) // 8
    for entry in range(entries):
        offset, length = struct.unpack_from("<II", data, 8 * entry)
        offset &= 0x7FFFFFFF
        start = offset + 1 + data[offset]
        name = data[offset + 1 : start].decode("latin1").lstrip('"')
        if name.startswith(title):
            sound = io.BytesIO(data[start : start + length])
            samples, rate = soundfile.read(sound, dtype="float32", always_2d=True)
            return soxr.resample(samples.mean(axis=1), rate, RATE).astype(np.float32)
    raise ValueError(f'{archive} holds no sound titled "{title}"')


def usable_recordings(
    files: Sequence[Path], rng: np.random.Generator, *, tidy: bool = False
) -> Iterator[SpeechClip]:
    """Trimmed recordings at one level, in random order; silent and clipped ones are left out.

    With ``tidy=True``, of files that hold the same samples only one is taken, and rumble and mains
    hum below the voice are filtered out.
    """
    order = rng.permutation(len(files))
    known = set()
    for path in (files[index] for index in order):
        signal = read_mono(path)
        if tidy:
            digest = hashlib.sha256(signal.tobytes()).digest()
            if digest in known:
                continue
            known.add(digest)
        if len(signal) < 0.25 * RATE or np.abs(signal).max() < 0.01:
            continue
        if clipped_share(signal, path) > CLIPPED or frame_levels(signal, RATE).max() < QUIETEST:
            continue
        if tidy:
            signal = sosfilt(_rumble_filter(), signal).astype(np.float32)
        signal = trim(signal, RATE)
        yield signal / np.sqrt(active_power(signal, RATE)).astype(np.float32) * 0.05, [path]


@cache
def _rumble_filter() -> np.ndarray:
    return butter(4, LOWEST_VOICE, "highpass", fs=RATE, output="sos")


def speech_clips(
    files: Sequence[Path], rng: np.random.Generator, *, join: bool = True, tidy: bool = False
) -> Iterator[SpeechClip]:
    """Clips of 2 to 6.5 s from one speaker's recordings, each with the files it came from.

    A recording that fits is a clip; a long one is cut at its quietest frames, and short ones are
    joined with brief pauses. ``join=False`` takes only recordings that already are a clip, so that
    transcripts stay valid. ``tidy`` is that of :func:`usable_recordings`.
    """
    parts: list[np.ndarray] = []
    names: list[Path] = []
    target = rng.uniform(STANDALONE, LONGEST)
    for signal, [path] in usable_recordings(files, rng, tidy=tidy):
        seconds = len(signal) / RATE
        if (SHORTEST if not join else STANDALONE) <= seconds <= LONGEST:
            yield signal, [path]
        elif join and seconds > LONGEST:
            for piece in _cut_at_pauses(signal):
                yield piece, [path]
        elif join:
            if parts:
                parts.append(np.zeros(int(rng.uniform(0.02, 0.2) * RATE), np.float32))
            parts.append(signal)
            names.append(path)
            joined = sum(map(len, parts)) / RATE
            if joined >= target:
                if joined <= LONGEST + 0.5:
                    yield np.concatenate(parts), names
                parts, names, target = [], [], rng.uniform(STANDALONE, LONGEST)


def _cut_at_pauses(signal: np.ndarray) -> Iterator[np.ndarray]:
    start, shortest, longest = 0, int((SHORTEST + 0.5) * RATE), int(LONGEST * RATE)
    while len(signal) - start > shortest:
        earliest, latest = start + shortest, min(len(signal), start + longest)
        end = latest
        levels = frame_levels(signal[earliest:latest], RATE)
        if latest < len(signal) and len(levels):
            end = earliest + int(np.argmin(levels)) * 320 + 160
        piece = trim(signal[start:end], RATE)
        if SHORTEST * RATE <= len(piece):
            yield piece
        start = end


class NoisePool:
    """Noise of one split: recordings by kind and name, background talkers and key strokes.

    Args:
        recordings: Kind -> name -> waveform (T,).
        shares: Kind -> probability (any scale). Beside the kinds of ``recordings`` it may hold
            ``babble`` (5 to 8 talkers at once), ``speech_shaped`` (noise with the talkers'
            spectrum) and ``typing`` (strokes at random intervals).
        talkers: Continuous speech of each background speaker.
        strokes: Single key strokes.
    """

    def __init__(
        self,
        recordings: dict[str, dict[str, np.ndarray]],
        shares: dict[str, float],
        talkers: Sequence[np.ndarray] = (),
        strokes: Sequence[np.ndarray] = (),
    ):
        self.recordings, self.talkers, self.strokes = recordings, talkers, strokes
        self.kinds = list(shares)
        self.probabilities = np.array(list(shares.values())) / sum(shares.values())
        self.shaping = _speech_shape(talkers) if "speech_shaped" in shares else None

    def draw(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, str, str]:
        """Noise of ``length`` samples with unit power (T,), its kind and its name.

        If an excerpt is silent, another is drawn by the same generator.

        Raises:
            ValueError: If every excerpt is silent; the message names the recording.
        """
        special: dict[str, Callable] = {
            "babble": self._babble,
            "speech_shaped": self._speech_shaped,
            "typing": self._typing,
        }
        silent = {}
        for _ in range(DRAWS):
            kind = str(rng.choice(self.kinds, p=self.probabilities))
            noise, name = special.get(kind, self._recording)(length, rng, kind)
            power = (noise.astype(np.float64) ** 2).mean()
            if power > SILENCE:
                return noise / np.sqrt(power), kind, name
            silent[name] = None
        raise ValueError(
            f"the noise {', '.join(silent)} is silent over {length / RATE:.2f} s wherever it was "
            "cut: replace or remove it"
        )

    def _recording(self, length: int, rng: np.random.Generator, kind: str):
        name = str(rng.choice(list(self.recordings[kind])))
        recording = self.recordings[kind][name]
        excerpt = loop_excerpt(recording, length, RATE, rng)
        for _ in range(20):  # do not pass off a pause as noise
            if (excerpt**2).mean() > 0.05 * (recording**2).mean():
                break
            excerpt = loop_excerpt(recording, length, RATE, rng)
        if not excerpt.any() and len(recording) > length and recording.any():
            audible = np.flatnonzero(recording)  # little of it is: take some of that
            begin = int(rng.choice(audible)) - int(rng.integers(length))
            begin = min(max(0, begin), len(recording) - length)
            excerpt = recording[begin : begin + length]
        return excerpt, name

    def _babble(self, length: int, rng: np.random.Generator, _kind: str):
        count = int(rng.integers(5, MOST_TALKERS + 1))
        order = range(len(self.talkers))
        if len(order) > MOST_TALKERS:
            order = rng.permutation(len(order))
        noise = np.zeros(length)
        for number in range(count):
            talk = self.talkers[order[number % len(order)]]
            noise += loop_excerpt(talk, length, RATE, rng) * 10 ** (rng.uniform(-4, 4) / 20)
        return noise, f"babble_{count}"

    def _speech_shaped(self, length: int, rng: np.random.Generator, kind: str):
        white = rng.standard_normal(length + len(self.shaping))
        return lfilter(self.shaping, [1.0], white)[len(self.shaping) :], kind

    def _typing(self, length: int, rng: np.random.Generator, kind: str):
        noise, position = np.zeros(length), 0
        while position < length:
            stroke = self.strokes[int(rng.integers(len(self.strokes)))][: length - position]
            noise[position : position + len(stroke)] += stroke * rng.uniform(0.5, 1)
            position += int(rng.uniform(0.06, 0.28) * RATE)
        return noise, kind


def _speech_shape(talkers: Sequence[np.ndarray]) -> np.ndarray:
    """Linear-phase filter (513,) with the long-term spectrum of the talkers."""
    frequencies, power = welch(np.concatenate(talkers), RATE, nperseg=512)
    return firwin2(513, frequencies / (RATE / 2), np.sqrt(power / power.max()))


def continuous_talk(files: Sequence[Path], rng: np.random.Generator) -> np.ndarray:
    """Recordings of background talkers joined to little more than 90 s, (T,).

    Raises:
        ValueError: If no recording can be used.
    """
    parts, length = [], 0
    for signal, _ in usable_recordings(files, rng):
        parts.append(signal)
        length += len(signal)
        if length > 90 * RATE:
            break
    if not parts:
        raise ValueError(f"{_place(files)}: no recording is long and loud enough for background")
    return np.concatenate(parts)


def _place(files: Sequence[Path]) -> str:
    return str(files[0].parent) if files else "background talkers"


def without(pattern: str, files: Sequence[Path]) -> list[Path]:
    """Audio files of full bandwidth whose path does not match a regular expression."""
    audio = [path for path in files if path.suffix.lower() in SUFFIXES]
    return [path for path in audio if not re.search(pattern, str(path)) and is_wideband(path)]
