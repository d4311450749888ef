"""VoiceBank-DEMAND: noisy and clean speech of 28 training and 2 test speakers, 48 kHz, one channel.

References:
    C. Valentini-Botinhao, "Noisy speech database for training speech enhancement algorithms and
    TTS models", University of Edinburgh, 2017, doi:10.7488/ds/2117, DataShare item DS_10283_2791.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from espnet2_tfckd.cli import at_least_one, run_command, true_or_false
from espnet2_tfckd.corpora.download import RemoteZip, fetch_zips, unpack_flat
from espnet2_tfckd.corpora.inspection import (
    CLIPPED,
    Problem,
    Recording,
    in_threads,
    inspect_pair,
    report_problems,
)
from espnet2_tfckd.corpora.preparation import SPLITS, preparing
from espnet2_tfckd.data.audio import audio_files, wav_files
from espnet2_tfckd.data.datadir import DataDir, write_data_dir
from espnet2_tfckd.processes import cpu_cores

#: Where DataShare has the item's files: by identifier since its move, by name before.
ADDRESSES = (
    "https://datashare.ed.ac.uk/server/api/core/bitstreams/{uuid}/content",
    "https://datashare.ed.ac.uk/bitstream/handle/10283/2791/{name}",
)


def _zip(name: str, size: int, md5: str, uuid: str) -> RemoteZip:
    return RemoteZip(name, size, md5, tuple(url.format(name=name, uuid=uuid) for url in ADDRESSES))


#: Checksums as DataShare states them for the item's files; sizes of the test set's are rounded.
ZIPS = (
    _zip(
        "clean_testset_wav.zip",
        154_327_000,
        "34eb1c0ba7ef667e9b966866c542fc16",
        "dec213d3-bf57-4777-9663-c24bdce92d5e",
    ),
    _zip(
        "noisy_testset_wav.zip",
        170_583_000,
        "fb1b86caa31e8ba5b506c0c64da9aab5",
        "13c1bfbf-14a6-41db-9b41-8f7310f01ad5",
    ),
    _zip(
        "clean_trainset_28spk_wav.zip",
        2_486_057_279,
        "d2d5a45ec32f8fcbf201bde0447e20ba",
        "245452b6-6235-44b6-a6f9-e7eb19797769",
    ),
    _zip(
        "noisy_trainset_28spk_wav.zip",
        2_830_205_201,
        "1fca9e8bafb8cd069f6653c6d92f9e9c",
        "ecb5a102-bb00-46d3-8af5-40c79823b837",
    ),
)

RATE = 48000
VALID_SPEAKERS = {"p226", "p287"}


class Part(NamedTuple):
    """One of the corpus' two parts, as distributed."""

    noisy: str
    clean: str
    text: str
    utterances: int
    speakers: int
    hours: tuple[float, float]  # a range, since what is published is rounded


PARTS = {
    "train": Part(
        "noisy_trainset_28spk_wav",
        "clean_trainset_28spk_wav",
        "trainset_28spk_txt",
        11572,
        28,
        (8.5, 10.5),
    ),
    "test": Part("noisy_testset_wav", "clean_testset_wav", "testset_txt", 824, 2, (0.55, 0.6)),
}


@dataclass(frozen=True)
class Inspected:
    """A part of the corpus and the files that were found."""

    data: DataDir
    problems: list[Problem]
    noted: list[Problem]


def prepare_vctk_noisy(
    corpus_dir: str | Path,
    data_dir: str | Path,
    *,
    split: str = "espnet",
    download: bool = False,
    source_url: str | None = None,
    allow_incomplete: bool = False,
    nj: int = 1,
) -> None:
    """Make the data directories ``train``, ``valid`` and ``test`` below ``data_dir``.

    Every file is read and checked: names and pairing, sampling rate, channels, equal lengths,
    silence; then the numbers of utterances and speakers, and the hours. Deviations from the corpus
    as distributed are listed in ``<data_dir>/deviations.txt``. Clipped recordings are listed there
    too, but are used. If the same options and files were used before, nothing is done.

    Args:
        corpus_dir: Holds the four folders, the zips or some of each, or one folder with these. A
            folder may hold the wav files directly or in a folder of its own name. If one of the
            four folders is given, the folder around it is used. Zips are unpacked in their own
            folder.
        data_dir: Where the data directories are written.
        split: ``espnet`` trains on 26 speakers and validates on p226 and p287. ``papers`` trains on
            all 28 and validates on the test set, as published code without held-out speakers does
            (MP-SENet's, for example). Checkpoints are then chosen on test data.
        download: Fetch the zips that are missing to ``corpus_dir`` (5.6 GB, 7 GB unpacked).
        source_url: Address of a folder with the zips, used instead of DataShare.
        allow_incomplete: Use what there is in spite of deviations; broken or unpaired files are
            left out.
        nj: Number of threads.

    Raises:
        FileNotFoundError: If a folder is missing, and so is its zip (the message names all).
        OSError: If there is too little space on the disk.
        RuntimeError: If a download fails, or another process is working on the same folders.
        ValueError: If the corpus deviates from what is distributed, or a zip is damaged.
    """
    corpus_dir, data_dir = _corpus_folder(Path(corpus_dir)), Path(data_dir)
    if download:
        missing = [z for z in ZIPS if _folder(corpus_dir, Path(z.name).stem, ".wav") is None]
        fetch_zips(missing, corpus_dir, source_url)
    folders = _unpacked_folders(corpus_dir)
    options = {"split": split, "allow_incomplete": allow_incomplete}
    files = [path for folder in folders.values() for path in wav_files(folder.resolve())]
    with preparing(data_dir, files, options) as is_due:
        if not is_due:
            return
        found = {name: _inspect_part(part, folders, nj) for name, part in PARTS.items()}
        report_problems(
            [problem for part in found.values() for problem in part.problems],
            data_dir / "deviations.txt",
            allow_incomplete,
            "Fetch the corpus again (--download true), or use what there is: "
            "--allow_incomplete true",
            [problem for part in found.values() for problem in part.noted],
        )
        for name, data in _split(found["train"].data, found["test"].data, split).items():
            write_data_dir(data_dir / name, data)
            speakers = len(set(data.speaker.values()))
            counts = f"{len(data)} utterances of {speakers} speakers"
            print(f"{name}: {counts}, {len(data.text)} transcripts")


def _corpus_folder(corpus_dir: Path) -> Path:
    """The folder with the corpus' folders or zips: this one, one around it or one inside it."""
    own = {name for part in PARTS.values() for name in (part.noisy, part.clean, part.text)}

    def is_it(folder: Path) -> bool:
        return any((folder / f"{name}{suffix}").exists() for name in own for suffix in ("", ".zip"))

    outer = corpus_dir.resolve()
    while outer.name in own:
        outer = outer.parent
    if outer != corpus_dir.resolve():
        return outer
    inner = [] if is_it(outer) else [path for path in sorted(outer.glob("*/")) if is_it(path)]
    return inner[0] if len(inner) == 1 else corpus_dir


def _folder(corpus_dir: Path, name: str, suffix: str) -> Path | None:
    """The folder with the files, which may lie in a folder of the zip's name."""
    for folder in (corpus_dir / name, corpus_dir / name / name):
        if folder.is_dir() and audio_files(folder, deep=False, suffixes=[suffix]):
            return folder
    return None


def _unpacked_folder(corpus_dir: Path, name: str, suffix: str) -> Path | None:
    """As :func:`_folder`, but unpacks the zip if there is no folder."""
    archive = corpus_dir / f"{name}.zip"
    if _folder(corpus_dir, name, suffix) is None and archive.exists():
        unpack_flat(archive, corpus_dir / name, suffix)
    return _folder(corpus_dir, name, suffix)


def _unpacked_folders(corpus_dir: Path) -> dict[str, Path]:
    """The folders with wav files, and the folders with transcripts that exist, by name."""
    names = [name for part in PARTS.values() for name in (part.noisy, part.clean)]
    folders = {name: _unpacked_folder(corpus_dir, name, ".wav") for name in names}
    missing = [f"{name} or {name}.zip" for name, folder in folders.items() if folder is None]
    if missing:
        raise FileNotFoundError(
            f"{corpus_dir} (--corpus_dir) lacks wav files of VoiceBank-DEMAND: "
            f"{', '.join(missing)}. Fetch them with --download true, or from doi:10.7488/ds/2117"
        )
    for part in PARTS.values():
        folders[part.text] = _unpacked_folder(corpus_dir, part.text, ".txt")
    return {name: folder for name, folder in folders.items() if folder}


def _inspect_part(part: Part, folders: dict[str, Path], nj: int) -> Inspected:
    """Read all audio of one part; the usable pairs make up the data directory."""
    files = [{p.stem: p.resolve() for p in wav_files(folders[n])} for n in part[:2]]
    names, problems = _paired_names(*files, folders[part.noisy], folders[part.clean])
    pairs = [(files[0][name], files[1][name]) for name in names]
    results = in_threads(lambda pair: inspect_pair(*pair), pairs, nj, part.noisy)
    data, noted, seconds = DataDir({}, {}, {}), [], 0.0
    for (path, reference), (recording, faults) in zip(pairs, results, strict=True):
        problems += faults or _unlike_the_corpus(path, recording)
        if recording.clipped > CLIPPED:
            share = f"{100 * recording.clipped:.1f} % of its samples, or its reference's"
            noted.append(Problem(str(path), f"(used) {share}, are at full scale"))
        if faults:
            continue
        seconds += recording.seconds
        utterance = path.stem
        data.mixture[utterance], data.reference[utterance] = str(path), str(reference)
        data.speaker[utterance] = utterance.partition("_")[0]
    data.text = _transcripts(folders.get(part.text), data)
    problems += _totals(part, data, seconds / 3600)
    return Inspected(data, problems, noted)


def _paired_names(
    noisy: dict[str, Path], clean: dict[str, Path], noisy_dir: Path, clean_dir: Path
) -> tuple[list[str], list[Problem]]:
    problems = []
    for mine, others, folder, other in (
        (noisy, clean, noisy_dir, clean_dir),
        (clean, noisy, clean_dir, noisy_dir),
    ):
        alone = sorted(mine.keys() - others.keys())
        problems += [Problem(str(folder / f"{n}.wav"), f"is missing in {other}") for n in alone]
    paired = sorted(noisy.keys() & clean.keys())
    named = [name for name in paired if re.fullmatch(r"p\d{3}_\d{3}", name)]
    strange = sorted(set(paired) - set(named))
    text = "is named unlike the corpus' files (p226_001.wav): remove it"
    return named, problems + [Problem(str(noisy_dir / f"{name}.wav"), text) for name in strange]


def _unlike_the_corpus(path: Path, recording: Recording) -> list[Problem]:
    """Deviations from the corpus as distributed that do not make a pair useless."""
    problems = []
    if recording.rate != RATE:
        problems.append(f"has {recording.rate} Hz, the corpus {RATE} Hz")
    if recording.channels != 1:
        problems.append(f"has {recording.channels} channels, the corpus one")
    return [Problem(str(path), text) for text in problems]


def _totals(part: Part, data: DataDir, hours: float) -> list[Problem]:
    speakers = len(set(data.speaker.values()))
    low, high = part.hours
    print(f"{part.noisy}: {len(data)} pairs, {speakers} speakers, {hours:.2f} hours")
    problems = []
    if len(data) != part.utterances:
        problems.append(f"{len(data)} usable pairs, the corpus has {part.utterances}")
    if speakers != part.speakers:
        problems.append(f"{speakers} speakers, the corpus has {part.speakers}")
    if not low <= hours <= high:
        problems.append(f"{hours:.2f} hours, the corpus has {low} to {high}")
    return [Problem(part.noisy, text) for text in problems]


def _transcripts(folder: Path | None, data: DataDir) -> dict[str, str]:
    """Transcripts of those utterances that have one, each in one line."""
    texts = {}
    for path in audio_files(folder, deep=False, suffixes=[".txt"]) if folder else ():
        words = path.read_text(encoding="utf-8", errors="replace").split()
        if words and path.stem in data.mixture:
            texts[path.stem] = " ".join(words)
    return texts


def _split(train: DataDir, test: DataDir, split: str) -> dict[str, DataDir]:
    if split == "papers":
        return {"train": train, "valid": test, "test": test}
    valid = {u for u, speaker in train.speaker.items() if speaker in VALID_SPEAKERS}
    sets = {"train": train.subset(train.mixture.keys() - valid), "valid": train.subset(valid)}
    return sets | {"test": test}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`prepare_vctk_noisy`."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--corpus_dir", default="downloads", help="folders or zips of the corpus")
    parser.add_argument("--data_dir", default="data", help="data directories go here")
    parser.add_argument("--split", choices=("espnet", "papers"))
    parser.add_argument("--download", type=true_or_false, help="true: fetch missing zips")
    parser.add_argument("--source_url", help="folder with the zips (default: DataShare)")
    parser.add_argument("--allow_incomplete", type=true_or_false, help="true: accept deviations")
    parser.add_argument("--nj", type=at_least_one, default=cpu_cores(), help="number of threads")
    options = vars(parser.parse_args(arguments))
    prepare_vctk_noisy(**options)
    print(f"data directories: {options['data_dir']}/{{{','.join(SPLITS)}}}")


if __name__ == "__main__":
    run_command(main)
