"""The DNS Challenge's speech, noise and room responses, to be mixed at each visit."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from espnet2_tfckd.cli import at_least_one, run_command, true_or_false
from espnet2_tfckd.corpora.custom import decibel_range, write_sets
from espnet2_tfckd.corpora.custom_mixing import (
    Division,
    Material,
    Mixing,
    mix_sets,
    usable_material,
)
from espnet2_tfckd.corpora.custom_pairs import by_name, usable_pairs
from espnet2_tfckd.corpora.inspection import Problem, in_threads, report_problems
from espnet2_tfckd.corpora.preparation import preparing
from espnet2_tfckd.corpora.splits import HELD_OUT, utterance_id, without_unnamed
from espnet2_tfckd.data.audio import audio_shape
from espnet2_tfckd.data.datadir import DataDir, raise_problems
from espnet2_tfckd.processes import cpu_cores

MOST_SPEAKERS = 40  # of the validation set, and of the test set if it is mixed here
#: Where the challenges keep what: the folder of speech holds the subsets.
LAYOUTS = (
    ("datasets", "clean", "noise"),
    ("datasets_fullband", "clean_fullband", "noise_fullband"),
    ("datasets", "", "noise"),
    ("datasets_fullband", "", "noise_fullband"),
    ("", "clean", "noise"),
    ("", "clean_fullband", "noise_fullband"),
    ("", "", "noise"),
)
ROOMS = "impulse_responses"
TEST_SETS = {"test": "no_reverb", "test_reverb": "with_reverb"}
_READER = re.compile(r"reader_(\d+)")
_FILE_ID = re.compile(r"fileid_(\d+)")


@dataclass(frozen=True)
class Challenge:
    """Folders of a download.

    Attributes:
        speech: Folder of each subset of clean speech.
        noise: Folder of noise.
        rooms: Folder of room impulse responses; None if there is none.
        tests: (mixtures, references) of each synthetic test set that is there.
    """

    speech: dict[str, Path]
    noise: Path
    rooms: Path | None
    tests: dict[str, tuple[Path, Path]]


def find_challenge(dns_dir: Path, subsets: Sequence[str]) -> Challenge:
    """Find the folders of any of the challenges, 2020 to 2023.

    Args:
        dns_dir: Checkout of the challenge, or its folder ``datasets`` or ``datasets_fullband``.
        subsets: Folders of speech, such as ``read_speech``. In the first challenge, which has none,
            the speech lies in ``clean`` itself.

    Raises:
        FileNotFoundError: If there is no such folder, or speech or noise is missing.
    """
    if not dns_dir.is_dir():
        raise FileNotFoundError(f"{dns_dir} is not a folder (seen from {Path.cwd()})")
    for top, clean, noise in LAYOUTS:
        root = dns_dir / top
        folders = {name: root / clean / name for name in subsets}
        if clean == "clean" and any((root / clean).glob("*.wav")):
            folders = {"read_speech": root / clean}
        if (root / noise).is_dir() and all(folder.is_dir() for folder in folders.values()):
            rooms = [path / ROOMS for path in (root, root.parent / "datasets", dns_dir)]
            tests = root / "test_set" / "synthetic"
            pairs = {name: tests / reverb for name, reverb in TEST_SETS.items()}
            return Challenge(
                folders,
                root / noise,
                next((path for path in rooms if path.is_dir()), None),
                {n: (p / "noisy", p / "clean") for n, p in pairs.items() if p.is_dir()},
            )
    places = ", ".join(sorted({f"{'/'.join(filter(None, parts[:2]))}/" for parts in LAYOUTS[:4]}))
    raise FileNotFoundError(
        f"{dns_dir} does not hold the speech {', '.join(subsets)} (in {places}) and noise (noise/ "
        "or noise_fullband/ beside it): name the folder into which the challenge's script "
        "downloaded, and subsets that are there"
    )


def speaker_of(name: str) -> str:
    """The speaker of a recording by its path: the reader, else its first folders.

    Examples:
        >>> speaker_of("read_speech/book_00000_chp_0009_reader_06709_11")
        'reader06709'
        >>> speaker_of("emotional_speech/crema_d/1001_DFA_ANG_XX"), speaker_of("read_speech/a_1")
        ('emotional_speech-crema_d', 'read_speech-a')
    """
    if match := _READER.search(name):
        return f"reader{match[1]}"
    *folders, last = name.split("/")
    if len(folders) > 1:
        return "-".join(folders[:2])
    return "-".join([*folders, re.split(r"[_-]", last)[0]])


def prepare_dns(
    dns_dir: str | Path,
    data_dir: str | Path,
    subsets: Sequence[str] = ("read_speech",),
    hours: float | None = None,
    rooms: bool = True,
    snr_range: tuple[float, float] = (-5.0, 20.0),
    heldout_utts: int = 400,
    seed: int = 1,
    on_bad_file: str = "skip",
    nj: int = 1,
) -> None:
    """Make data directories of a DNS Challenge, whose training speech is mixed at each visit.

    ``train`` holds speech, ``train_noise`` and ``train_rooms`` what ESPnet mixes with it. ``valid``
    is mixed here from further speakers and noises. ``test`` and ``test_reverb`` are the synthetic
    test sets of the first challenge where they are; else ``test`` is mixed here as well. Nothing
    but ``valid``, and perhaps ``test``, is written as audio.

    Args:
        dns_dir: See :func:`find_challenge`.
        data_dir: Where the data directories are written.
        subsets: See :func:`find_challenge`.
        hours: Hours of training speech that are drawn; None for all.
        rooms: Whether room responses are used, if there are any.
        snr_range: Lowest and highest signal-to-noise ratio in dB of what is mixed here.
        heldout_utts: Mixtures in each set that is mixed here, at most.
        seed: Seed of all choices.
        on_bad_file: ``skip`` to leave out what cannot be used, or ``error``.
        nj: Number of threads.

    Raises:
        FileNotFoundError: If folders are missing.
        ValueError: If files cannot be used, or there is too little to divide.
        RuntimeError: If another process is working on ``data_dir``.
    """
    data_dir, found = Path(data_dir), find_challenge(Path(dns_dir), subsets)
    problems: list[Problem] = []
    speech = {
        f"{subset}/{name}": path
        for subset, folder in found.speech.items()
        for name, path in by_name(folder, problems).items()
    }
    noise = by_name(found.noise, problems)
    room_files = by_name(found.rooms, problems) if rooms and found.rooms else {}
    material = Material(speech, noise, room_files)
    print(
        f"found {len(speech)} recordings of speech, {len(noise)} of noise, {len(room_files)} room "
        f"responses and the test sets: {', '.join(found.tests) or 'none'}"
    )
    options = {"subsets": list(subsets), "hours": hours, "snr_range": list(snr_range)}
    options |= {"heldout_utts": heldout_utts, "seed": seed, "on_bad_file": on_bad_file}
    pairs = {name: _test_pairs(*folders) for name, folders in found.tests.items()}
    tests = [Path(path) for matched in pairs.values() for pair in matched.values() for path in pair]
    names = ["train", "valid", "test", "train_noise"]
    with preparing(data_dir, [*material.files, *tests], options, names=names) as is_due:
        if not is_due:
            return
        problems += without_unnamed(speech, ".+")
        division = _divide(speech, with_test=not found.tests, seed=seed)
        if hours is not None:
            division = _draw(division, speech, hours, seed, nj)
        drawn = replace(material, speech={name: speech[name] for name in division})
        usable, more = usable_material(drawn, nj)
        sets = {}
        for name, matched in pairs.items():
            matched, bad = usable_pairs(matched, nj)
            more += bad
            sets[name] = _test_set(matched)
        report = data_dir / "bad_files.txt"
        remedy = "Fix the files, or leave them out: --on_bad_file skip"
        report_problems(problems + more, report, on_bad_file == "skip", remedy)
        division = {name: who for name, who in division.items() if name in usable.speech}
        mixing = Mixing(snr_range, seed, True, heldout_utts)
        write_sets(mix_sets(usable, division, mixing, data_dir / "audio") | sets, data_dir)


def _divide(speech: dict[str, Path], with_test: bool, seed: int) -> Division:
    """A tenth of the speakers for validation, 40 at most, and as many for a test set if asked."""
    speakers = {name: speaker_of(name) for name in speech}
    names = sorted(set(speakers.values()))
    count = max(1, min(MOST_SPEAKERS, round(HELD_OUT * len(names))))
    if len(names) < (3 if with_test else 2):
        raise ValueError(
            f"the speech has {len(names)} speakers, and each set needs its own: add subsets"
        )
    order = [names[n] for n in np.random.default_rng(seed).permutation(len(names))]
    sets = dict.fromkeys(order[:count], "valid")
    if with_test:
        sets |= dict.fromkeys(order[count : 2 * count], "test")
    return {
        name: (utterance_id(name, speaker), speaker, sets.get(speaker, "train"))
        for name, speaker in speakers.items()
    }


def _draw(
    division: Division, speech: dict[str, Path], hours: float, seed: int, nj: int
) -> Division:
    """Keep so many hours of training speech, drawn at random, and all of the other sets."""
    train = sorted(name for name, (_, _, set_name) in division.items() if set_name == "train")
    drawn, left = set(), 3600 * hours
    order = [train[n] for n in np.random.default_rng([seed, 5]).permutation(len(train))]
    for start in range(0, len(order), 1000):
        if left <= 0:
            break
        part = order[start : start + 1000]
        lengths = in_threads(lambda name: _seconds(speech[name]), part, nj, "drawing speech")
        for name, seconds in zip(part, lengths, strict=True):
            if left > 0:
                drawn.add(name)
                left -= seconds
    if left > 0:
        print(f"note: there are only {hours - left / 3600:.1f} hours of training speech")
    return {n: who for n, who in division.items() if who[2] != "train" or n in drawn}


def _seconds(path: Path) -> float:
    """0 for what cannot be read, which is reported later."""
    try:
        frames, _, rate = audio_shape(path)
    except (ValueError, OSError):
        return 0.0
    return frames / rate


def _test_pairs(mixtures: Path, references: Path) -> dict[str, tuple[str, str]]:
    """Mixture and reference by the number in their names, ``..._fileid_12``."""
    problems: list[Problem] = []
    sides = []
    for folder in (mixtures, references):
        numbered = {}
        for name, path in by_name(folder, problems).items():
            if match := _FILE_ID.search(name):
                numbered[int(match[1])] = str(path.resolve())
        sides.append(numbered)
    lonely = sorted(sides[0].keys() ^ sides[1].keys())
    raise_problems(
        f"the test set {mixtures.parent}",
        [f"fileid_{number} has no counterpart in noisy or clean" for number in lonely],
    )
    return {f"dns-fileid{n:05d}": (sides[0][n], sides[1][n]) for n in sorted(sides[0])}


def _test_set(pairs: dict[str, tuple[str, str]]) -> DataDir:
    sides = [{name: pair[side] for name, pair in pairs.items()} for side in (0, 1)]
    return DataDir(*sides, dict.fromkeys(pairs, "dns"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`prepare_dns`."""
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--dns_dir", required=True, help="where the challenge was downloaded to")
    parser.add_argument("--data_dir", default="data", help="data directories go here")
    parser.add_argument("--subsets", type=str.split, help="folders of speech, separated by blanks")
    parser.add_argument("--hours", type=float, help="hours of training speech (default: all)")
    parser.add_argument("--rooms", type=true_or_false, help="whether to use room responses")
    parser.add_argument("--snr_range", type=decibel_range, help="'lowest highest', in dB")
    parser.add_argument("--heldout_utts", type=at_least_one, help="mixtures of a mixed set")
    parser.add_argument("--seed", type=int, help="seed of all choices")
    parser.add_argument("--on_bad_file", choices=("error", "skip"))
    parser.add_argument("--nj", type=at_least_one, default=cpu_cores(), help="number of threads")
    options = vars(parser.parse_args(arguments))
    if options.get("hours", 1) <= 0:
        parser.error("--hours must be above 0")
    prepare_dns(**options)
    print(f"data directories: {options['data_dir']}/")


if __name__ == "__main__":
    run_command(main)
