"""Where the mini corpus' speech and noise come from: recordings in unpacked packages."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from zlib import crc32

import numpy as np
from tqdm import tqdm

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.corpora.fetch import fetch_packages, unpack
from espnet2_tfckd.corpora.mixing import nearer
from espnet2_tfckd.corpora.pools import (
    RATE,
    NoisePool,
    continuous_talk,
    read_mono,
    read_opensfx,
    without,
)
from espnet2_tfckd.corpora.sources import Recording, Sources
from espnet2_tfckd.data.freshness import sha256
from espnet2_tfckd.data.locking import only_one

LICENCE_FILES = {"copyright", "METADATA", "NOTICE", "LICENSE", "LICENSE.txt"}


@dataclass
class SplitSources:
    """What one split is mixed from; in ``metadata.csv``, paths are relative to ``root``.

    Attributes:
        split: Name of the split.
        number: Its number, for seeds.
        root: Where packages are unpacked.
        speech: Recordings of each speaker.
        shares: How much each speaker says.
        noise: What is mixed with it.
        transcripts: What is said in a recording.
        tidied: Whether copies of a recording are left out, and rumble.
        room: Name and impulse response (L,) of the room in which half of the speech is heard.
    """

    split: str
    number: int
    root: Path
    speech: dict[str, list[Path]]
    shares: dict[str, float]
    noise: NoisePool
    transcripts: dict[Path, str] = field(default_factory=dict)
    tidied: bool = False
    room: tuple[str, np.ndarray] | None = None


def unpack_packages(tables: Sources, corpus_dir: Path, source_dir: str | Path | None) -> Path:
    """Fetch and unpack all packages and write the credits; returns where they are unpacked."""
    packages, unpacked = corpus_dir / "packages", corpus_dir / "unpacked"
    with only_one(packages):
        files = fetch_packages(tables.packages, packages, source_dir)
        for name, file in tqdm(files.items(), desc="unpacking", unit="package"):
            unpack(name, file, tables.patterns_of(name), unpacked)
        _write_credits(tables, corpus_dir / tables.folder, files, unpacked)
    return unpacked


def package_sources(tables: Sources, unpacked: Path, split: str, seed: int) -> SplitSources:
    """The speech and noise of one split, as listed in the tables.

    Raises:
        ValueError: If a package no longer holds what the tables name.
    """
    speakers = [row for row in tables.speakers if row.split == split]
    speech = {
        row.name: without(tables.not_speech, _matching(unpacked, row.package, row.pattern))
        for row in speakers
    }
    transcripts = {}
    if tables.transcribed in speech:
        files = speech[tables.transcribed]
        transcripts = _transcripts(_matching(unpacked, *tables.transcripts)[0], files)
        speech[tables.transcribed] = list(transcripts)
    return SplitSources(
        split,
        tables.split_number(split),
        unpacked,
        speech,
        {row.name: row.share for row in speakers},
        _package_noise(tables, unpacked, split, seed),
        transcripts,
        split in tables.tidied,
        _room(tables, unpacked, split),
    )


def _room(tables: Sources, unpacked: Path, split: str) -> tuple[str, np.ndarray] | None:
    """Name and response of the split's room, if it has one."""
    for room in tables.rooms:
        if room.split == split:
            response = read_mono(_matching(unpacked, room.package, room.pattern)[0])
            return room.name, nearer(response, room.nearer, room.seconds, RATE)
    return None


def _package_noise(tables: Sources, unpacked: Path, split: str, seed: int) -> NoisePool:
    recordings: dict[str, dict[str, np.ndarray]] = {}
    talkers, strokes = [], []
    for row in (row for row in tables.recordings if row.split == split):
        pattern, _, title = row.pattern.partition(":")
        files = _matching(unpacked, row.package, f"*/{pattern}" if title else pattern)
        if row.kind == "babble":
            key = tables.split_number(split), crc32(row.name.encode())
            rng = np.random.default_rng([seed, 2, *key])
            talkers.append(continuous_talk(without(tables.not_speech, files), rng))
        elif row.kind == "typing":
            strokes = [read_mono(file) for file in files]
        else:
            sound = read_opensfx(files[0], title) if title else read_mono(files[0])
            recordings.setdefault(row.kind, {})[row.name] = sound
    return NoisePool(recordings, tables.kind_shares[split], talkers, strokes)


def _matching(unpacked: Path, package: str, pattern: str) -> list[Path]:
    root = unpacked / package
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    found = [path for path in files if fnmatch(f"/{path.relative_to(root)}", pattern)]
    if not found:
        raise ValueError(
            f"{root} holds nothing like {pattern}: package {package} has changed; "
            "use an earlier version of it with --source_dir"
        )
    return found


def _transcripts(listing: Path, files: Iterable[Path]) -> dict[Path, str]:
    """Transcripts of prompts that have a plain one, in lower case without punctuation."""
    texts = {}
    with gzip.open(listing, "rt", errors="replace") as lines:
        for line in lines:
            name, _, words = line.strip().partition(":")
            if re.search(r"[\[\d]", words):  # descriptions of sounds; numbers not spelt out
                continue
            words = re.sub(r"\(.*?\)", "", words.lower()).replace("-", " ")
            texts[name] = " ".join(re.sub(r"[^a-z' ]", " ", words).split())
    keys = {file: str(file).rpartition("_Allison/")[2].removesuffix(".g722") for file in files}
    return {file: texts[key] for file, key in keys.items() if texts.get(key)}


def _write_credits(tables: Sources, folder: Path, files: dict[str, Path], unpacked: Path) -> None:
    lines = ["# Where the mini corpus comes from", ""]
    lines += ["| package | file | licence | credit | sha256 |", "| --- | --- | --- | --- | --- |"]
    for row in tables.packages:
        file = files[row.name]
        lines.append(
            f"| {row.name} | {file.name} | {row.licence} | {row.credit} | {sha256(file)} |"
        )
    lines += ["", "| split | speaker or noise | package | pattern |", "| --- | --- | --- | --- |"]
    for row in (*tables.speakers, *tables.recordings, *tables.rooms):
        what = f"{row.kind} {row.name}" if isinstance(row, Recording) else row.name
        lines.append(f"| {row.split} | {what} | {row.package} | `{row.pattern}` |")
    lines += ["", "Full licence texts and authors: folder `licences` beside this file.", ""]
    for row in tables.packages:
        for path in sorted((unpacked / row.name).rglob("*")):
            if path.name in LICENCE_FILES or path.name.startswith("readme.txt"):
                target = folder / "licences" / f"{row.name}-{path.name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    with atomic_write(folder / "CREDITS.md") as temporary:
        temporary.write_text("\n".join(lines))
