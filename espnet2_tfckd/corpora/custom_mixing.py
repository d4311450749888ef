"""Own clean speech and noise: checking them, and mixing them at 16 kHz with seeded choices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
import soxr
from scipy.signal import fftconvolve
from tqdm import tqdm

from espnet2_tfckd.corpora.custom_pairs import by_name
from espnet2_tfckd.corpora.inspection import CLIPPED, Problem, in_threads, inspect
from espnet2_tfckd.corpora.mini import LEVEL_RANGE
from espnet2_tfckd.corpora.mixing import PEAK, mix_at_snr
from espnet2_tfckd.corpora.pools import RATE, NoisePool, SpeechClip, read_mono, speech_clips
from espnet2_tfckd.corpora.preparation import SPLITS
from espnet2_tfckd.corpora.splits import HELD_OUT, utterance_id
from espnet2_tfckd.data.audio import write_audio
from espnet2_tfckd.data.datadir import DataDir, raise_problems
from espnet2_tfckd.data.entries import read_entry
from espnet2_tfckd.data.paths import make_own_folder

SHORTEST_NOISE = 0.25  # seconds
EARLY = 0.05  # seconds of a room response after its peak that the reference keeps


@dataclass(frozen=True)
class Material:
    """Usable files, each by its path in its folder without suffix."""

    speech: dict[str, Path]
    noise: dict[str, Path]
    rooms: dict[str, Path]

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return [*self.speech.values(), *self.noise.values(), *self.rooms.values()]


class LazyRecordings(Mapping):
    """Recordings by name, decoded when they are needed, because they may not fit into memory."""

    def __init__(self, files: dict[str, Path]):
        self.files = files

    def __getitem__(self, name: str) -> np.ndarray:
        return read_mono(self.files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def usable_material(material: Material, nj: int) -> tuple[Material, list[Problem]]:
    """Read all audio; leave out what is broken, clipped or below 16 kHz."""
    problems: list[Problem] = []
    usable: list[dict[str, Path]] = []
    for kind in (material.speech, material.noise, material.rooms):
        recordings = in_threads(inspect, kind.values(), nj, "checking recordings")
        kept = {}
        for (name, path), recording in zip(kind.items(), recordings, strict=True):
            faults = recording.faults
            if not faults and recording.rate < RATE:
                faults = [f"has {recording.rate} Hz, mixing is done at {RATE} Hz: remove it"]
            if kind is not material.rooms and recording.clipped > CLIPPED:
                faults = [*faults, "is clipped: replace or remove it"]
            if kind is material.noise and not faults and recording.seconds < SHORTEST_NOISE:
                faults = [f"lasts less than {SHORTEST_NOISE} s: remove it"]
            problems += [Problem(str(path), fault) for fault in faults]
            if not faults:
                kept[name] = path
        usable.append(kept)
    return Material(*usable), problems


@dataclass(frozen=True)
class Mixing:
    """How sets are made of speech, noise and room responses.

    Attributes:
        snr_range: Lowest and highest signal-to-noise ratio in dB.
        seed: Seed of all choices.
        at_visit: Whether the training set is speech that is mixed anew at each visit, so that
            nothing of it is written; otherwise every clip is mixed once.
        heldout_utts: Mixtures of the validation and of the test set, at most; None for all.
    """

    snr_range: tuple[float, float]
    seed: int
    at_visit: bool = False
    heldout_utts: int | None = None


#: Utterance id, speaker and set of a recording of speech, by its name.
Division = dict[str, tuple[str, str, str]]


def mix_sets(
    material: Material, division: Division, mixing: Mixing, audio_dir: Path
) -> dict[str, DataDir]:
    """Data directories of speech and noise; each set has its own speakers and, if it can, noises.

    What is mixed here is cut at pauses and joined to clips of 2 to 6.5 s. The same recordings,
    division and choices give the same files. With fewer than three noise recordings, all sets share
    them. For mixing at each visit, ``train`` holds speech as mixture and as reference, and there
    are ``train_noise`` and, with room responses, ``train_rooms``.

    Args:
        material: The recordings.
        division: Who goes where.
        mixing: How to mix.
        audio_dir: Where the mixtures are written.

    Raises:
        ValueError: If a set has no speech of 2 s, a noise is silent, or ``audio_dir`` contains or
            lies among other files.
    """
    make_own_folder(audio_dir, [path.parent for path in material.files])
    by_set: dict[str, dict[str, list[Path]]] = {name: {} for name in SPLITS}
    for name, (_, speaker, set_name) in division.items():
        by_set[set_name].setdefault(speaker, []).append(material.speech[name])
    noises = _divide_noises(material.noise, mixing.seed)
    sets = {}
    if mixing.at_visit:
        train = {n: who for n, who in division.items() if who[2] == "train"}
        if not train:
            raise ValueError("no speaker is left for training: name fewer for validation and test")
        sets["train"] = _unmixed(
            {utterance: material.speech[name] for name, (utterance, _, _) in train.items()},
            {utterance: speaker for utterance, speaker, _ in train.values()},
        )
        for kind, files in (("noise", noises["train"]), ("rooms", material.rooms)):
            if files:
                named = {utterance_id(name, kind): path for name, path in files.items()}
                sets[f"train_{kind}"] = _unmixed(named, dict.fromkeys(named, kind))
    rooms = {name: _read_room(path) for name, path in _some(material.rooms, mixing).items()}
    for name in SPLITS:
        if name not in sets and (by_set[name] or not mixing.at_visit):
            sets[name] = _mix_set(name, by_set[name], noises[name], rooms, mixing, audio_dir)
    return sets


def _unmixed(files: dict[str, Path], speakers: dict[str, str]) -> DataDir:
    """Recordings that are both mixture and reference, until they are mixed."""
    entries = {utterance: str(path.resolve()) for utterance, path in sorted(files.items())}
    return DataDir(entries, dict(entries), {u: speakers[u] for u in entries})


def _some(rooms: dict[str, Path], mixing: Mixing) -> dict[str, Path]:
    """As many room responses as the held-out mixtures can use; there may be 100,000."""
    if not mixing.at_visit or len(rooms) <= (most := 2 * (mixing.heldout_utts or len(rooms))):
        return rooms
    names = np.random.default_rng([mixing.seed, 4]).choice(sorted(rooms), most, replace=False)
    return {str(name): rooms[str(name)] for name in sorted(names)}


def _divide_noises(noises: dict[str, Path], seed: int) -> dict[str, dict[str, Path]]:
    if len(noises) < len(SPLITS):
        print(f"note: there are {len(noises)} noise recordings, which all sets share")
        return dict.fromkeys(SPLITS, noises)
    names = [str(name) for name in np.random.default_rng([seed, 1]).permutation(sorted(noises))]
    count = max(1, round(HELD_OUT * len(names)))
    parts = (names[2 * count :], names[:count], names[count : 2 * count])
    return {s: {n: noises[n] for n in sorted(part)} for s, part in zip(SPLITS, parts, strict=True)}


def _mix_set(
    set_name: str,
    speech: dict[str, list[Path]],
    noises: dict[str, Path],
    rooms: dict[str, np.ndarray],
    mixing: Mixing,
    audio_dir: Path,
) -> DataDir:
    pool = NoisePool({"recording": LazyRecordings(noises)}, {"recording": 1.0})
    data = DataDir({}, {}, {})
    most = mixing.heldout_utts if set_name != "train" else None
    quota = None if most is None else math.ceil(most / max(1, len(speech)))
    for speaker, files in tqdm(sorted(speech.items()), f"mixing {set_name}", unit="speaker"):
        key = crc32(speaker.encode())
        clips = speech_clips(sorted(files), np.random.default_rng([mixing.seed, 2, key]))
        left = None if most is None else min(quota, most - len(data))
        for number, clip in enumerate(islice(clips, left)):
            utterance = f"{speaker}-{set_name}{number:05d}"
            rng = np.random.default_rng([mixing.seed, 3, key, number])
            mixture, reference, row = _mix_clip(clip, pool, rooms, mixing.snr_range, rng)
            for table, kind, signal in (
                (data.mixture, "mixture", mixture),
                (data.reference, "reference", reference),
            ):
                path = (audio_dir / set_name / kind / f"{utterance}.wav").resolve()
                write_audio(path, signal, RATE)
                table[utterance] = str(path)
            data.speaker[utterance] = speaker
            data.metadata[utterance] = {"speaker": speaker, **row}
    if not data.mixture:
        raise ValueError(
            f"the speakers of the {set_name} set ({', '.join(sorted(speech)) or 'none'}) have no "
            "speech of 2 s: add recordings, or choose others with --valid_list and --test_list"
        )
    return data


def _mix_clip(
    clip: SpeechClip,
    pool: NoisePool,
    rooms: dict[str, np.ndarray],
    snr_range: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    speech, files = clip
    noise, _, noise_name = pool.draw(len(speech), rng)
    snr, level = rng.uniform(*snr_range), rng.uniform(*LEVEL_RANGE)
    row = {
        "seconds": f"{len(speech) / RATE:.3f}",
        "snr_db": f"{snr:.2f}",
        "noise": noise_name,
        "sources": "|".join(file.name for file in files),
    }
    target, speech, noise = (signal[:, None] for signal in (speech, speech, noise))
    if rooms:
        row["room"], elsewhere = (str(rng.choice(list(rooms))) for _ in range(2))
        room = rooms[row["room"]]
        target, speech = _convolve(speech, early_part(room)), _convolve(speech, room)
        noise = _convolve(noise, rooms[elsewhere])
    return *mix_channels(speech, target, noise, snr, level), row


def _convolve(signal: np.ndarray, room: np.ndarray) -> np.ndarray:
    """(T, 1) and (L, M) -> (T, M)."""
    return fftconvolve(signal, room, axes=0)[: len(signal)]


def early_part(room: np.ndarray) -> np.ndarray:
    """A room response up to 50 ms after its peak: direct sound and early reflections, (L, M)."""
    ends = np.abs(room).argmax(axis=0) + round(EARLY * RATE)
    return np.where(np.arange(len(room))[:, None] <= ends, room, 0)


def mix_channels(
    speech: np.ndarray, target: np.ndarray, noise: np.ndarray, snr: float, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Add noise to speech of any number of channels; level and SNR are those of the first one.

    Args:
        speech: Speech as the microphones hear it, (T, M).
        target: The part of the speech that enhancement should keep, (T, M).
        noise: Noise, (T, M).
        snr: Signal-to-noise ratio in dB.
        level: Active level of the speech in dB relative to full scale.

    Returns:
        Mixture and reference, both (T, M).
    """
    mixed, heard, _ = mix_at_snr(speech[:, 0], noise[:, 0], snr, level, RATE)
    speech_gain = np.linalg.norm(heard) / np.linalg.norm(speech[:, 0])
    noise_gain = np.linalg.norm(mixed - heard) / np.linalg.norm(noise[:, 0])
    mixture, reference = speech_gain * speech + noise_gain * noise, speech_gain * target
    gain = min(1.0, PEAK / max(np.abs(mixture).max(), np.abs(reference).max()))
    return gain * mixture, gain * reference


def _read_room(path: Path) -> np.ndarray:
    response, rate = read_entry(str(path))
    return soxr.resample(response, rate, RATE)


def material_of(speech_dir: Path, noise_dir: Path, rir_dir: Path | None) -> Material:
    """All files below the folders.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a folder holds no audio, or two files of the same name.
    """
    problems: list[Problem] = []
    found = [by_name(folder, problems) for folder in (speech_dir, noise_dir)]
    found.append(by_name(rir_dir, problems) if rir_dir else {})
    for folder, files in zip((speech_dir, noise_dir, rir_dir), found, strict=True):
        if folder and not files:
            raise ValueError(f"{folder} holds no audio files (wav, flac, ogg, opus, mp3, m4a...)")
    raise_problems("own recordings", [str(problem) for problem in problems])
    return Material(*found)
