"""Speakers, utterance ids and the division of own recordings into training, validation and test."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from espnet2_tfckd.corpora.inspection import Problem
from espnet2_tfckd.corpora.preparation import SPLITS
from espnet2_tfckd.data.datadir import raise_problems

#: The first folder below the one given, else the file's name up to the first ``-`` or ``_`` after
#: its first letter.
SPEAKER_PATTERN = r"[^/]+(?=/)|[_-]*[^/_-]+|[^/]+"
HELD_OUT = 0.1  # share of the speakers that make up validation, and again test


@dataclass(frozen=True)
class Splitting:
    """How recordings are divided.

    Attributes:
        speaker_pattern: See :func:`speaker_of`.
        valid_list: See :func:`assign_sets`.
        test_list: The same for the test set.
        seed: Seed of the choice of speakers.
    """

    speaker_pattern: str = SPEAKER_PATTERN
    valid_list: str | None = None
    test_list: str | None = None
    seed: int = 1

    def divide(self, names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
        """Utterance id, speaker and set of every recording.

        Raises:
            ValueError: If the recordings cannot be divided as asked for, or two have the same id.
        """
        speakers = {name: speaker_of(name, self.speaker_pattern) for name in names}
        sets = assign_sets(speakers, self.valid_list, self.test_list, self.seed)
        ids = {name: utterance_id(name, speaker) for name, speaker in speakers.items()}
        repeated = [i for i, count in Counter(ids.values()).items() if count > 1]
        raise_problems(
            "files whose names differ only in blanks and slashes",
            [f"{', '.join(n for n in ids if ids[n] == i)}: rename one" for i in repeated],
        )
        return {name: (ids[name], speakers[name], sets[name]) for name in speakers}


def check_pattern(pattern: str) -> None:
    """Refuse a --speaker_pattern that is not a regular expression.

    Raises:
        ValueError: If it cannot be compiled; the message says where.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"--speaker_pattern {pattern!r} is not a regular expression ({error})"
        ) from error


def name_fault(name: str, pattern: str) -> str | None:
    """Why a recording cannot get an utterance id and a speaker by its name; None if it can.

    Examples:
        >>> name_fault("ann/take 1", SPEAKER_PATTERN), name_fault("take 1", "p[0-9]")
        (None, "has no speaker in its name: --speaker_pattern 'p[0-9]' does not match it")
    """
    if name.splitlines() != [name] or name != name.encode(errors="ignore").decode():
        return "has a name with line breaks or undecodable characters: rename it"
    try:
        speaker_of(name, pattern)
    except ValueError:
        return f"has no speaker in its name: --speaker_pattern {pattern!r} does not match it"
    return None


def without_unnamed(recordings: dict, pattern: str) -> list[Problem]:
    """Take out the recordings whose names cannot become utterance ids, and say why."""
    faults = {name: fault for name in recordings if (fault := name_fault(name, pattern))}
    for name in faults:
        del recordings[name]
    return [Problem(ascii(name), fault) for name, fault in faults.items()]


def speaker_of(name: str, pattern: str) -> str:
    """The speaker of a recording by its path, without blanks.

    Args:
        name: Path below the folder given, without suffix; or an utterance id.
        pattern: Regular expression, matched at the start; its first group counts if it has one.

    Raises:
        ValueError: If the pattern does not match.

    Examples:
        >>> speaker_of("ann b/take_1", SPEAKER_PATTERN), speaker_of("p226_001", SPEAKER_PATTERN)
        ('ann-b', 'p226')
        >>> speaker_of("_x", SPEAKER_PATTERN), speaker_of("-", SPEAKER_PATTERN)
        ('_x', '-')
    """
    match = re.match(pattern, name)
    speaker = (match[1] if match.groups() else match[0]) if match else None
    if not speaker:
        raise ValueError(f"no speaker in {name!r}: --speaker_pattern {pattern} does not match it")
    return re.sub(r"[\s/]+", "-", speaker)


def utterance_id(name: str, speaker: str) -> str:
    """An utterance id that begins with the speaker and has neither blanks nor slashes.

    Examples:
        >>> utterance_id("ann/monday/take 1", "ann"), utterance_id("take1", "ann")
        ('ann-monday-take-1', 'ann-take1')
    """
    plain = re.sub(r"[\s/]+", "-", name)
    return plain if plain.startswith(speaker) else f"{speaker}-{plain}"


def assign_sets(
    speakers: dict[str, str],
    valid_list: str | Path | None,
    test_list: str | Path | None,
    seed: int,
) -> dict[str, str]:
    """Divide recordings into training, validation and test set.

    A set without a list takes a tenth of the speakers, at least one. The seed chooses them from the
    speakers that the other list leaves.

    Args:
        speakers: Speaker of every recording by its name.
        valid_list: Text file with speakers or recordings (with or without suffix), one a line.
        test_list: The same for the test set.
        seed: Of the choice of speakers.

    Returns:
        ``train``, ``valid`` or ``test`` for every recording.

    Raises:
        FileNotFoundError: If a list is not there.
        ValueError: If a list names what is not there or in the other list, or there are too few
            speakers.
    """
    lists = {"valid": valid_list, "test": test_list}
    chosen = {name: read_list(path, speakers) for name, path in lists.items() if path}
    if both := chosen.get("valid", set()) & chosen.get("test", set()):
        raise_problems(f"{valid_list} and {test_list}", [f"{name} is in both" for name in both])
    listed = set().union(*chosen.values())
    free = sorted({speaker for name, speaker in speakers.items() if name not in listed})
    wanted = [name for name in lists if name not in chosen]
    count = max(1, round(HELD_OUT * len(free)))
    if len(free) <= count * len(wanted):
        raise ValueError(
            f"{len(free)} speakers ({', '.join(free[:5])}) are too few to choose those of "
            f"{' and '.join(wanted) or 'train'} from: set --speaker_pattern if that is not who "
            "speaks, or name recordings with --valid_list and --test_list"
        )
    order = np.random.default_rng(seed).permutation(free)
    for position, name in enumerate(wanted):
        held_out = set(order[position * count : (position + 1) * count])
        chosen[name] = {n for n, s in speakers.items() if s in held_out and n not in listed}
    _note_overlap(speakers, chosen)
    held_out_sets = {name: held_out for held_out, names in chosen.items() for name in names}
    return dict.fromkeys(speakers, SPLITS[0]) | held_out_sets


def _note_overlap(speakers: dict[str, str], chosen: dict[str, set[str]]) -> None:
    """Say which speakers are in several sets, which lists of recordings can cause."""
    names = {"train": speakers.keys() - set().union(*chosen.values()), **chosen}
    of_set = {name: {speakers[recording] for recording in of} for name, of in names.items()}
    for first, second in combinations(of_set, 2):
        if both := sorted(of_set[first] & of_set[second]):
            shown = ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")
            print(f"note: {first} and {second} share {len(both)} speakers: {shown}")


def read_list(path: str | Path, speakers: dict[str, str]) -> set[str]:
    """Names of the recordings that a list names directly or by their speaker.

    Raises:
        FileNotFoundError: If the list is not there.
        ValueError: If it names what is not there, is empty, or is not UTF-8 text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the list {path} does not exist (seen from {Path.cwd()})")
    of_speaker: dict[str, set[str]] = {}
    for name, speaker in speakers.items():
        of_speaker.setdefault(speaker, set()).add(name)
    found, problems = set(), []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"the list {path} is not UTF-8 text: save it as such") from error
    for line in filter(None, map(str.strip, lines)):
        names = _named(line, speakers) or of_speaker.get(line)
        if names:
            found |= names
        else:
            problems.append(f"{line} is neither a speaker nor a recording that is there")
    raise_problems(str(path), problems or ([] if found else ["the list is empty"]))
    return found


def _named(line: str, names: Collection[str]) -> set[str]:
    without_suffix = str(Path(line).with_suffix("")) if Path(line).name else line
    return {name for name in (line, without_suffix) if name in names}
