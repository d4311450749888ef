"""The folders and files of L3DAS23 task 1: finding them, and fetching them from Kaggle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet2_tfckd.corpora.inspection import Problem
from espnet2_tfckd.data.audio import audio_files, wav_files
from espnet2_tfckd.data.locking import only_one

DATASET = "l3dasteam/l3das23-task1"
PAGE = f"https://www.kaggle.com/datasets/{DATASET}"
MICROPHONES = ("A", "B")


@dataclass(frozen=True)
class Utterance:
    """Where the files of an utterance are or should be; the mixture has one for each microphone.

    The transcript is optional.
    """

    name: str
    mixture: tuple[Path, ...]
    reference: Path
    transcript: Path | None

    @property
    def speaker(self) -> str:
        """LibriSpeech's number of the speaker, with which the names of utterances begin."""
        return self.name.partition("-")[0]


def find_folders(corpus_dir: Path) -> dict[str, list[Path]]:
    """The folders that hold ``data`` and ``labels``, by the part of the corpus they belong to.

    The innermost folder whose name includes a part decides, such as ``L3DAS23_Task1_train_100``,
    ``L3DAS23_Task1_train_360_part1`` or ``train360``. Folders of task 2, hidden folders and
    ``__MACOSX`` are skipped.
    """
    found: dict[str, list[Path]] = {"train100": [], "train360": [], "dev": []}
    for path, inner, _ in os.walk(corpus_dir, followlinks=True):
        inner[:] = sorted(n for n in inner if not n.startswith(".") and n != "__MACOSX")
        if not {"data", "labels"} <= set(inner):
            continue
        inner.clear()
        names = Path(path).relative_to(corpus_dir).parts
        part = next(filter(None, map(_part_of, reversed(names))), None)
        if part and not any("task2" in name.lower() for name in names):
            found[part].append(Path(path).resolve())
    return found


def needed_folders(corpus_dir: Path, parts: Sequence[str], download: bool) -> dict[str, list[Path]]:
    """The folders of some parts; if one is missing and ``download`` is true, the corpus is fetched.

    Raises:
        FileNotFoundError: If a part of the corpus has no folder.
        RuntimeError: If the kaggle client is missing or fails.
    """
    found = find_folders(corpus_dir)
    if not all(found[part] for part in parts):
        around = _around(corpus_dir)
        found = around if all(around[part] for part in parts) else found
    if download and not all(found[part] for part in parts):
        fetch(corpus_dir)
        found = find_folders(corpus_dir)
    if missing := [part for part in parts if not found[part]]:
        zips = sorted(path.name for path in corpus_dir.glob("*.zip"))
        remedy = f"Fetch them with --download true, or unpack {PAGE} there"
        raise FileNotFoundError(
            f"{corpus_dir} (--corpus_dir) lacks folders of L3DAS23 task 1 with data/ and labels/: "
            f"{', '.join(missing)}. {'Unpack ' + ', '.join(zips) if zips else remedy}"
        )
    return {part: found[part] for part in parts}


def _around(corpus_dir: Path) -> dict[str, list[Path]]:
    """Folders around a part of the corpus, if the given folder is one or lies in one."""
    outer = corpus_dir.resolve()
    if outer.name in ("data", "labels"):
        outer = outer.parent
    is_part = {"data", "labels"} <= {path.name for path in outer.glob("*")}
    if is_part or any(find_folders(outer).values()):
        while _part_of(outer.name):
            outer = outer.parent
    return find_folders(outer)


def _part_of(name: str) -> str | None:
    """The part of the corpus that a folder's name includes."""
    match = re.search(r"(train)_?(100|360)|(dev)$", name.lower())
    return "".join(filter(None, match.groups())) if match else None


def fetch(corpus_dir: Path) -> None:
    """Fetch and unpack the corpus with the kaggle client.

    Raises:
        RuntimeError: If the client is missing or fails, or another process is fetching the corpus.
    """
    advice = (
        "It needs the API token of a Kaggle account in ~/.kaggle/kaggle.json, see "
        f"https://www.kaggle.com/docs/api. Or unpack {PAGE} into {corpus_dir} yourself and leave "
        "out --download true"
    )
    client = shutil.which("kaggle")
    if client is None:
        raise RuntimeError(f"the kaggle client is not installed: pip install kaggle. {advice}")
    command = [client, "datasets", "download", DATASET, "-p", str(corpus_dir), "--unzip"]
    with only_one(corpus_dir):
        status = subprocess.run(command, check=False).returncode
    if status:
        raise RuntimeError(f"the kaggle client failed (status {status}, see above). {advice}")


def scan(folders: Sequence[Path], num_mics: int) -> tuple[list[Utterance], list[Problem]]:
    """All utterances that have some audio; the rest of their files may be missing.

    Returns:
        The utterances, and the problems of those that two folders hold.
    """
    utterances: dict[str, Utterance] = {}
    problems = []
    for folder in folders:
        data, labels = folder / "data", folder / "labels"
        references = {path.stem: path for path in wav_files(labels)}
        recordings = {path.stem: path for path in wav_files(data)}
        transcripts = {path.stem: path for path in transcript_files(labels)}
        names = set(references)
        for mic in MICROPHONES[:num_mics]:
            names |= {n.removesuffix(f"_{mic}") for n in recordings if n.endswith(f"_{mic}")}
        for name in sorted(names):
            mixture = tuple(
                recordings.get(stem, data / f"{stem}.wav")
                for stem in (f"{name}_{mic}" for mic in MICROPHONES[:num_mics])
            )
            if name in utterances:
                text = f"is in {utterances[name].mixture[0].parent} as well: remove one of them"
                problems.append(Problem(str(mixture[0]), text))
                continue
            reference = references.get(name, labels / f"{name}.wav")
            utterances[name] = Utterance(name, mixture, reference, transcripts.get(name))
    return list(utterances.values()), problems


def transcript_files(labels: Path) -> list[Path]:
    """The transcripts in a folder of references."""
    return audio_files(labels, deep=False, suffixes=[".txt"])


def files_of(folders: dict[str, list[Path]], num_mics: int) -> list[Path]:
    """All files that are used."""
    microphones = tuple(f"_{mic}" for mic in MICROPHONES[:num_mics])
    files = []
    for folder in (folder for part in folders.values() for folder in part):
        files += [path for path in wav_files(folder / "data") if path.stem.endswith(microphones)]
        files += [*wav_files(folder / "labels"), *transcript_files(folder / "labels")]
    return files
