"""L3DAS23 task 1: noisy reverberant speech in first-order Ambisonics, two microphones, 16 kHz.

References:
    "Overview of the L3DAS23 Challenge on Audio-Visual Extended Reality", arXiv 2402.09245.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet2_tfckd.cli import at_least_one, run_command, true_or_false
from espnet2_tfckd.corpora.inspection import (
    Problem,
    Recording,
    in_threads,
    inspect,
    report_problems,
)
from espnet2_tfckd.corpora.l3das23_files import Utterance, files_of, needed_folders, scan
from espnet2_tfckd.corpora.preparation import SPLITS, preparing
from espnet2_tfckd.data.audio import kept_subtype, read_audio, write_audio
from espnet2_tfckd.data.datadir import DataDir, write_data_dir
from espnet2_tfckd.data.decoding import open_audio
from espnet2_tfckd.data.paths import refuse_overlap
from espnet2_tfckd.processes import cpu_cores

RATE = 16000
CHANNELS = 4  # of a microphone: W, Y, Z, X
UNCUT_SECONDS = 12  # no utterance is longer
TRAINING_SETS = {
    "train100": ["train100"],
    "train360": ["train360"],
    "both": ["train100", "train360"],
}
TEST_LENGTHS = ("whole", "uncut")
VALID_SHARE = 20  # one speaker in so many is held out for validation
LEAST_SHARED = 0.5  # of the longest file's length: below, more than an echo is missing


@dataclass(frozen=True)
class Inspected:
    """Contents of the audio files of an utterance."""

    utterance: Utterance
    recordings: dict[Path, Recording]
    problems: list[Problem]
    noted: list[Problem]

    @property
    def shared_length(self) -> int:
        """The number of samples that all its files have."""
        return min(recording.frames for recording in self.recordings.values())


def prepare_l3das23(
    corpus_dir: str | Path,
    data_dir: str | Path,
    *,
    num_mics: int = 1,
    training_set: str = "both",
    test_length: str = "whole",
    on_bad_file: str = "error",
    download: bool = False,
    nj: int = 1,
) -> None:
    """Make the data directories ``train``, ``valid`` and ``test`` below ``data_dir``.

    Utterances keep the names of their LibriSpeech originals, so that speakers are known. About one
    training speaker in twenty, chosen by a hash of its number, is held out for validation
    (``valid/spk2utt`` lists them). The test set is the challenge's development set, because its
    blind test set has no references.

    Every file is read and checked. Mixture and reference begin together; if their lengths differ,
    the longer is cut at its end. Audio that is right stays where it is. Audio that is cut, or
    joined from two microphones, is written to ``<data_dir>/audio``. ``<data_dir>/deviations.txt``
    lists all deviations. If the same options and files were used before, nothing is done.

    Args:
        corpus_dir: Holds the corpus' folders at any depth, as Kaggle or the challenge's own script
            leaves them: ``train100``, ``train360`` (whole or in two parts) and ``dev``, each with
            ``data/<id>_A.wav``, ``data/<id>_B.wav``, ``labels/<id>.wav`` and ``labels/<id>.txt``.
        data_dir: Where the data directories are written.
        num_mics: 1 for microphone A (4 channels), 2 for A, then B (8 channels).
        training_set: ``train100`` (that of the challenge's baseline), ``train360`` or ``both``.
        test_length: ``whole`` utterances, or ``uncut``: padded with zeros (or cut) to 12 s, as the
            challenge's baseline is evaluated.
        on_bad_file: ``error``, or ``skip`` to leave out what cannot be used.
        download: Fetch the corpus to ``corpus_dir`` with the kaggle client if a folder is missing.
        nj: Number of threads.

    Raises:
        FileNotFoundError: If a folder is missing.
        RuntimeError: If the kaggle client is missing or fails, or another process is working on the
            same folders.
        ValueError: If files deviate from what is distributed, a set is left empty, or audio would
            be written where the corpus lies.
    """
    corpus_dir, data_dir = Path(corpus_dir), Path(data_dir)
    folders = needed_folders(corpus_dir, [*TRAINING_SETS[training_set], "dev"], download)
    refuse_overlap([data_dir / "audio"], [folder for part in folders.values() for folder in part])
    options = {"num_mics": num_mics, "training_set": training_set, "test_length": test_length}
    options["on_bad_file"] = on_bad_file
    with preparing(data_dir, files_of(folders, num_mics), options) as is_due:
        if not is_due:
            return
        tested, problems = scan(folders.pop("dev"), num_mics)
        trained, repeated = scan([folder for part in folders.values() for folder in part], num_mics)
        found = in_threads(_inspect, [*trained, *tested], nj, "checking")
        report_problems(
            [*problems, *repeated, *(problem for one in found for problem in one.problems)],
            data_dir / "deviations.txt",
            on_bad_file == "skip",
            "Restore the files, or leave these utterances out: --on_bad_file skip",
            [problem for one in found for problem in one.noted],
        )
        training, test = found[: len(trained)], found[len(trained) :]
        contents = {
            "train": [one for one in training if not is_held_out(one.utterance.speaker)],
            "valid": [one for one in training if is_held_out(one.utterance.speaker)],
            "test": test,
        }
        for name, members in contents.items():
            uncut = name == "test" and test_length == "uncut"
            _write_set(data_dir, name, members, UNCUT_SECONDS * RATE if uncut else None, nj)


def is_held_out(speaker: str) -> bool:
    """Whether a training speaker is held out for validation, whatever other speakers there are.

    Examples:
        >>> [speaker for speaker in range(160) if is_held_out(str(speaker))]
        [96, 105, 127]
    """
    return int(hashlib.sha256(speaker.encode()).hexdigest(), 16) % VALID_SHARE == 0


def _inspect(utterance: Utterance) -> Inspected:
    """Read the audio of an utterance and compare it with the corpus as distributed."""
    paths = (*utterance.mixture, utterance.reference)
    if missing := [path for path in paths if not path.is_file()]:
        text = f"is missing, while other audio of {utterance.name} is there: restore it"
        return Inspected(utterance, {}, [Problem(str(path), text) for path in missing], [])
    recordings = {path: inspect(path) for path in paths}
    problems = []
    if not re.fullmatch(r"\d+-\d+-\d+", utterance.name):
        text = "is named unlike the corpus' files (14-208-0020_A.wav): remove it"
        problems.append(Problem(str(paths[0]), text))
    for path, recording in recordings.items():
        channels = 1 if path == utterance.reference else CHANNELS
        faults = recording.faults or _unlike_the_corpus(recording, channels)
        problems += [Problem(str(path), fault) for fault in faults]
    result = Inspected(utterance, recordings, problems, [])
    if not problems:
        _compare_lengths(result)
    return result


def _unlike_the_corpus(recording: Recording, channels: int) -> list[str]:
    texts = []
    if recording.rate != RATE:
        texts.append(f"has {recording.rate} Hz, the corpus {RATE} Hz: restore it")
    if recording.channels != channels:
        texts.append(f"has {recording.channels} channels, the corpus {channels}: restore it")
    return texts


def _compare_lengths(result: Inspected) -> None:
    shortest = result.shared_length
    for path, recording in result.recordings.items():
        lengths = f"has {recording.frames} samples, other audio of its utterance {shortest}"
        if shortest < LEAST_SHARED * recording.frames:
            result.problems.append(Problem(str(path), f"{lengths}: restore the shorter"))
        elif shortest < recording.frames:
            result.noted.append(Problem(str(path), f"{lengths}: cut at its end and used"))


def _write_set(
    data_dir: Path, name: str, members: Sequence[Inspected], length: int | None, nj: int
) -> None:
    """Write a data directory of utterances without problems, cut to a fixed or a shared length."""
    members = [one for one in members if not one.problems]
    if not members:
        raise ValueError(
            f"no utterance is left for {data_dir / name}: see {data_dir / 'deviations.txt'} if it "
            "is there, and take more of the corpus (--training_set both)"
        )
    folder = data_dir.resolve() / "audio" / name
    data = DataDir({}, {}, {})
    entries = in_threads(lambda one: _align(one, length, folder), members, nj, f"aligning {name}")
    for one, (mixture, reference) in zip(members, entries, strict=True):
        utterance = one.utterance
        data.mixture[utterance.name], data.reference[utterance.name] = mixture, reference
        data.speaker[utterance.name] = utterance.speaker
        if utterance.transcript:
            words = utterance.transcript.read_text(encoding="utf-8", errors="replace").split()
            data.text[utterance.name] = " ".join(words)
    write_data_dir(data_dir / name, data)
    speakers = len(set(data.speaker.values()))
    cut = sum(bool(one.noted) for one in members)
    print(
        f"{name}: {len(data)} utterances of {speakers} speakers, {len(data.text)} transcripts; "
        f"{cut} with files of unequal length, cut to the shortest"
    )


def _align(one: Inspected, length: int | None, folder: Path) -> tuple[str, str]:
    """Paths of mixture and reference at one length; files of another length are written anew."""
    utterance, length = one.utterance, length or one.shared_length
    sources = {"mixture": utterance.mixture, "reference": (utterance.reference,)}
    paths = {}
    for kind, files in sources.items():
        if len(files) == 1 and one.recordings[files[0]].frames == length:
            paths[kind] = files[0]
            continue
        paths[kind] = folder / kind / f"{utterance.name}.wav"
        signals = [fit_length(read_audio(file)[0], length) for file in files]
        with open_audio(files[0]) as audio:
            subtype = kept_subtype(audio.subtype, "WAV")
        write_audio(paths[kind], np.concatenate(signals, axis=1), RATE, subtype, files)
    return str(paths["mixture"]), str(paths["reference"])


def fit_length(signal: np.ndarray, length: int) -> np.ndarray:
    """Cut, or pad with zeros, at the end; (T, M) -> (length, M)."""
    return np.pad(signal[:length], ((0, max(0, length - len(signal))), (0, 0)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`prepare_l3das23`."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--corpus_dir", default="downloads", help="holds the corpus' folders")
    parser.add_argument("--data_dir", default="data", help="data directories go here")
    parser.add_argument("--num_mics", type=int, choices=(1, 2), help="A, or A and B")
    parser.add_argument("--training_set", choices=TRAINING_SETS)
    parser.add_argument("--test_length", choices=TEST_LENGTHS)
    parser.add_argument("--on_bad_file", choices=("error", "skip"))
    parser.add_argument("--download", type=true_or_false, help="true: with the kaggle client")
    parser.add_argument("--nj", type=at_least_one, default=cpu_cores(), help="number of threads")
    options = vars(parser.parse_args(arguments))
    prepare_l3das23(**options)
    print(f"data directories: {options['data_dir']}/{{{','.join(SPLITS)}}}")


if __name__ == "__main__":
    run_command(main)
