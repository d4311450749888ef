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
from espnet2_tfckd.corpora import mini_sources as tables
from espnet2_tfckd.corpora.fetch import fetch_packages, unpack
from espnet2_tfckd.corpora.pools import (
    NoisePool,
    continuous_talk,
    read_mono,
    read_opensfx,
    without,
)
from espnet2_tfckd.corpora.preparation import SPLITS
from espnet2_tfckd.data.freshness import sha256
from espnet2_tfckd.data.locking import only_one


@dataclass
class SplitSources:
    """What one split is mixed from; in ``metadata.csv``, paths are relative to ``root``."""

    root: Path
    speech: dict[str, list[Path]]
    shares: dict[str, float]
    noise: NoisePool
    transcripts: dict[Path, str] = field(default_factory=dict)


def unpack_packages(corpus_dir: Path, source_dir: str | Path | None) -> Path:
    """Fetch and unpack all packages and write the credits; returns where they are unpacked."""
    packages, unpacked = corpus_dir / "packages", corpus_dir / "unpacked"
    with only_one(packages):
        files = fetch_packages(tables.PACKAGES, packages, source_dir)
        for name, file in tqdm(files.items(), desc="unpacking", unit="package"):
            unpack(name, file, tables.patterns_of(name), unpacked)
        _write_credits(corpus_dir / "mini", files, unpacked)
    return unpacked


def package_sources(unpacked: Path, split: str, seed: int) -> SplitSources:
    """The speech and noise of one split, as listed in ``mini_sources``.

    Raises:
        ValueError: If a package no longer holds what the tables name.
    """
    speakers = [row for row in tables.SPEAKERS if row.split == split]
    speech = {
        row.name: without(tables.NOT_SPEECH, _matching(unpacked, row.package, row.pattern))
        for row in speakers
    }
    transcripts = {}
    if tables.TRANSCRIBED_SPEAKER in speech:
        transcripts = _transcripts(unpacked, speech[tables.TRANSCRIBED_SPEAKER])
        speech[tables.TRANSCRIBED_SPEAKER] = list(transcripts)
    shares = {row.name: row.share for row in speakers}
    return SplitSources(
        unpacked, speech, shares, _package_noise(unpacked, split, seed), transcripts
    )


def _package_noise(unpacked: Path, split: str, seed: int) -> NoisePool:
    recordings: dict[str, dict[str, np.ndarray]] = {}
    talkers, strokes = [], []
    for row in (row for row in tables.RECORDINGS if row.split == split):
        pattern, _, title = row.pattern.partition(":")
        files = _matching(unpacked, row.package, f"*/{pattern}" if title else pattern)
        if row.kind == "babble":
            rng = np.random.default_rng([seed, 2, SPLITS.index(split), crc32(row.name.encode())])
            talkers.append(continuous_talk(without(tables.NOT_SPEECH, files), rng))
        elif row.kind == "typing":
            strokes = [read_mono(file) for file in files]
        else:
            sound = read_opensfx(files[0], title) if title else read_mono(files[0])
            recordings.setdefault(row.kind, {})[row.name] = sound
    return NoisePool(recordings, tables.KIND_SHARES[split], talkers, strokes)


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


def _transcripts(unpacked: Path, files: Iterable[Path]) -> dict[Path, str]:
    """Transcripts of prompts that have a plain one, in lower case without punctuation."""
    texts = {}
    with gzip.open(_matching(unpacked, *tables.TRANSCRIPTS)[0], "rt", errors="replace") as lines:
        for line in lines:
            name, _, words = line.strip().partition(":")
            if re.search(r"[\[\d]", words):  # descriptions of sounds; numbers not spelt out
                continue
            words = re.sub(r"\(.*?\)", "", words.lower()).replace("-", " ")
            texts[name] = " ".join(re.sub(r"[^a-z' ]", " ", words).split())
    keys = {file: str(file).rpartition("_Allison/")[2].removesuffix(".g722") for file in files}
    return {file: texts[key] for file, key in keys.items() if texts.get(key)}


def _write_credits(folder: Path, files: dict[str, Path], unpacked: Path) -> None:
    lines = ["# Where the mini corpus comes from", ""]
    lines += ["| package | file | licence | credit | sha256 |", "| --- | --- | --- | --- | --- |"]
    for row in tables.PACKAGES:
        file = files[row.name]
        lines.append(
            f"| {row.name} | {file.name} | {row.licence} | {row.credit} | {sha256(file)} |"
        )
    lines += ["", "| split | speaker or noise | package | pattern |", "| --- | --- | --- | --- |"]
    for row in (*tables.SPEAKERS, *tables.RECORDINGS):
        what = f"{row.kind} {row.name}" if isinstance(row, tables.Recording) else row.name
        lines.append(f"| {row.split} | {what} | {row.package} | `{row.pattern}` |")
    lines += ["", "Full licence texts and authors: folder `licences` beside this file.", ""]
    for row in tables.PACKAGES:
        for path in sorted((unpacked / row.name).rglob("*")):
            if path.name in {"copyright", "METADATA"} or path.name.startswith("readme.txt"):
                target = folder / "licences" / f"{row.name}-{path.name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    with atomic_write(folder / "CREDITS.md") as temporary:
        temporary.write_text("\n".join(lines))
