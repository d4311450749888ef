"""Own pairs of mixture and reference: finding, checking and dividing them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from espnet2_tfckd.corpora.inspection import CLIPPED, Problem, in_threads, inspect_pair
from espnet2_tfckd.corpora.preparation import SPLITS
from espnet2_tfckd.corpora.splits import Splitting
from espnet2_tfckd.data.audio import audio_files
from espnet2_tfckd.data.datadir import DataDir, read_scp
from espnet2_tfckd.data.entries import file_of

Pairs = dict[str, tuple[str, str]]  # scp entries of mixture and reference by name


def pairs_of_folders(mixture_dir: Path, reference_dir: Path) -> tuple[Pairs, list[Problem]]:
    """Match files by their paths in the two folders, without suffix.

    Raises:
        FileNotFoundError: If a folder is missing.
    """
    problems: list[Problem] = []
    mixtures, references = (by_name(d, problems) for d in (mixture_dir, reference_dir))
    sides = (
        {name: str(path.resolve()) for name, path in mixtures.items()},
        {name: str(path.resolve()) for name, path in references.items()},
    )
    return _matched(*sides, str(mixture_dir), str(reference_dir), problems)


def by_name(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Audio files below a folder by their path in it without suffix.

    Raises:
        FileNotFoundError: If the folder is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist (seen from {Path.cwd()})")
    found: dict[str, Path] = {}
    for path in audio_files(folder):
        name = str(path.relative_to(folder).with_suffix(""))
        if name in found:
            problems.append(Problem(str(path), f"is there as {found[name].name} too: remove one"))
        found.setdefault(name, path)
    return found


def pairs_of_lists(mixture_scp: Path, reference_scp: Path) -> tuple[Pairs, list[Problem]]:
    """Match the lines of two lists by their id.

    Raises:
        FileNotFoundError: If a list is missing.
        ValueError: If a list is malformed.
    """
    for scp in (mixture_scp, reference_scp):
        if not scp.is_file():
            raise FileNotFoundError(f"the list {scp} does not exist (seen from {Path.cwd()})")
    sides = [
        {utterance: _absolute(entry, scp.parent) for utterance, entry in read_scp(scp).items()}
        for scp in (mixture_scp, reference_scp)
    ]
    return _matched(*sides, str(mixture_scp), str(reference_scp), [])


def _absolute(entry: str, folder: Path) -> str:
    """Entries are relative to their list, or else to the working directory."""
    for candidate in (str(folder / entry), entry):
        if (file := file_of(candidate)).is_file():
            offset = candidate.rpartition(":")[2] if file != Path(candidate) else None
            return str(file.resolve()) if offset is None else f"{file.resolve()}:{offset}"
    return entry


def _matched(
    mixtures: dict[str, str],
    references: dict[str, str],
    mixtures_in: str,
    references_in: str,
    problems: list[Problem],
) -> tuple[Pairs, list[Problem]]:
    for mine, others, place in (
        (mixtures, references, references_in),
        (references, mixtures, mixtures_in),
    ):
        for name in mine.keys() - others.keys():
            text = f"has no counterpart {name} in {place}: add it there, or remove this one"
            problems.append(Problem(mine[name], text))
    paired = sorted(mixtures.keys() & references.keys())
    return {name: (mixtures[name], references[name]) for name in paired}, problems


def usable_pairs(pairs: Pairs, nj: int) -> tuple[Pairs, list[Problem]]:
    """Read all audio; leave out pairs that are broken or clipped, or whose channels differ."""
    results = in_threads(lambda pair: inspect_pair(*pair), pairs.values(), nj, "checking pairs")
    channels = Counter(mixture.channels for mixture, faults in results if not faults)
    usual = channels.most_common(1)[0][0] if channels else 0
    usable, problems = {}, []
    for (name, pair), (mixture, found) in zip(pairs.items(), results, strict=True):
        if not found and mixture.clipped > CLIPPED:
            share = f"{100 * mixture.clipped:.1f} % of its samples, or its reference's"
            found = [Problem(pair[0], f"is clipped: {share}, are at full scale; record it lower")]
        if not found and mixture.channels != usual:
            found = [Problem(pair[0], f"has {mixture.channels} channels, most have {usual}")]
        problems += found
        if not found:
            usable[name] = pair
    if usable and usual > 1:
        print(
            f"note: the mixtures have {usual} channels; for DPDCRN give "
            f'--enh_args "--separator_conf microphones={usual}"'
        )
    return usable, problems


def sets_of_pairs(pairs: Pairs, splitting: Splitting) -> dict[str, DataDir]:
    """Divide pairs into the three data directories.

    Raises:
        ValueError: If the recordings cannot be divided as asked for.
    """
    sets = {name: DataDir({}, {}, {}) for name in SPLITS}
    for name, (utterance, speaker, set_name) in splitting.divide(pairs).items():
        data = sets[set_name]
        data.mixture[utterance], data.reference[utterance] = pairs[name]
        data.speaker[utterance] = speaker
    return sets
