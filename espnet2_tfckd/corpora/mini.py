"""The mini corpus: real speech in real noise from freely licensed packages, 16 kHz, one channel.

Speakers, noises and packages are listed in ``mini_sources``.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
from tqdm import tqdm

from espnet2_tfckd.cli import at_least_one, run_command
from espnet2_tfckd.corpora import mini_sources as tables
from espnet2_tfckd.corpora.mini_pools import SplitSources, package_sources, unpack_packages
from espnet2_tfckd.corpora.mixing import mix_at_snr
from espnet2_tfckd.corpora.pools import RATE, NoisePool, SpeechClip, speech_clips
from espnet2_tfckd.corpora.preparation import SPLITS, preparing
from espnet2_tfckd.data.audio import write_audio
from espnet2_tfckd.data.datadir import DataDir, write_data_dir
from espnet2_tfckd.data.paths import make_own_folder
from espnet2_tfckd.processes import cpu_cores

TEST_SNRS = (-2.5, 2.5, 7.5, 12.5)
SNR_RANGE = (-5.0, 15.0)
LEVEL_RANGE = (-32.0, -22.0)


def prepare_mini(
    corpus_dir: str | Path,
    data_dir: str | Path,
    *,
    train_utts: int = 400,
    valid_utts: int = 40,
    test_utts: int = 60,
    seed: int = 1,
    nj: int = 1,
    source_dir: str | Path | None = None,
) -> None:
    """Make the data directories ``train``, ``valid`` and ``test`` below ``data_dir``.

    If they were made with the same options before, nothing is done. The same options give the same
    files to the byte, whatever ``nj`` is. With fewer utterances, those of each speaker are the
    first ones of the larger set.

    Args:
        corpus_dir: Where packages are fetched and unpacked, and ``mini/CREDITS.md`` is written.
        data_dir: Where the data directories are written; audio goes to
            ``audio/<split>/{mixture,reference}`` in it.
        train_utts: Number of utterances of the training set; likewise ``valid_utts`` and
            ``test_utts``. Every speaker gets at least one if the number allows.
        seed: Seed of all choices.
        nj: Number of threads.
        source_dir: Folder with the .deb and .whl files, instead of a download.

    Raises:
        FileNotFoundError: If a tool, folder or package is missing; the message says what to do.
        ValueError: If an option makes no sense, a recording cannot be used, or audio would be
            written where other files lie.
        RuntimeError: If a download fails repeatedly, or another process is working on the same
            folders.
    """
    corpus_dir, data_dir = Path(corpus_dir), Path(data_dir)
    counts = dict(zip(SPLITS, (train_utts, valid_utts, test_utts), strict=True))
    _check_options(counts, seed, nj)
    options = {"counts": counts, "seed": seed, "sources": _tables_digest()}
    with preparing(data_dir, (), options) as is_due:
        if not is_due:
            return
        unpacked = unpack_packages(corpus_dir, source_dir)
        for split, count in counts.items():
            sources = package_sources(unpacked, split, seed)
            audio_dir = make_own_folder(data_dir / "audio" / split)
            data = _build_split(sources, split, count, seed, audio_dir, nj)
            write_data_dir(data_dir / split, data)
            minutes = sum(float(row["seconds"]) for row in data.metadata.values()) / 60
            speakers = sorted(set(data.speaker.values()))
            print(f"{split}: {len(data)} utterances, {minutes:.1f} minutes, {', '.join(speakers)}")


def _check_options(counts: dict[str, int], seed: int, nj: int) -> None:
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f"--{split}_utts must be at least 1, got {count}")
    if seed < 0:
        raise ValueError(f"--seed must not be negative, got {seed}")
    if nj < 1:
        raise ValueError(f"--nj must be at least 1, got {nj}")


def _tables_digest() -> str:
    """A digest of the tables of packages, whose versions and checksums are fixed."""
    rows = (tables.PACKAGES, tables.SPEAKERS, tables.RECORDINGS, tables.KIND_SHARES)
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:32]


def _build_split(
    sources: SplitSources, split: str, count: int, seed: int, audio_dir: Path, nj: int
) -> DataDir:
    utterances = _choose(sources, split, count, seed, nj)
    data = DataDir({}, {}, {})

    def mix(job: tuple[str, int, SpeechClip]) -> tuple[str, str, dict[str, str], list[Path]]:
        speaker, number, (speech, files) = job
        utterance = f"{speaker}-{split}{number:04d}"
        rng = np.random.default_rng([seed, 1, *_key(split, speaker), number])
        row = _mix_utterance(speech, sources.noise, split, number, rng, audio_dir, utterance)
        row["sources"] = "|".join(str(file.relative_to(sources.root)) for file in files)
        return utterance, speaker, {"speaker": speaker, **row}, files

    with ThreadPoolExecutor(nj) as pool:
        results = pool.map(mix, utterances)
        for utterance, speaker, row, files in tqdm(results, f"mixing {split}", len(utterances)):
            data.mixture[utterance] = str(audio_dir / "mixture" / f"{utterance}.wav")
            data.reference[utterance] = str(audio_dir / "reference" / f"{utterance}.wav")
            data.speaker[utterance], data.metadata[utterance] = speaker, row
            if files[0] in sources.transcripts:
                data.text[utterance] = sources.transcripts[files[0]]
    return data


def _choose(
    sources: SplitSources, split: str, count: int, seed: int, nj: int
) -> list[tuple[str, int, SpeechClip]]:
    """The clips to mix: speaker, number among the speaker's clips, clip."""
    wanted = share_out(count, sources.shares)

    def choose(speaker: str) -> list[SpeechClip]:
        files = sources.speech[speaker]
        rng = np.random.default_rng([seed, 0, *_key(split, speaker)])
        clips = speech_clips(files, rng, join=not any(f in sources.transcripts for f in files))
        return list(islice(clips, wanted[speaker]))

    with ThreadPoolExecutor(nj) as pool:
        clips = dict(zip(wanted, pool.map(choose, wanted), strict=True))
    for speaker, found in clips.items():
        if len(found) < wanted[speaker]:
            print(f"note: {speaker} has speech for {len(found)} of {wanted[speaker]} utterances")
        if wanted[speaker] and not found:
            raise ValueError(f"speaker {speaker} ({split}) has no usable speech of 2 s or more")
    return [(name, n, clip) for name, found in clips.items() for n, clip in enumerate(found)]


def share_out(count: int, shares: dict[str, float]) -> dict[str, int]:
    """Share a number of utterances among speakers; each gets at least one if that is possible.

    Examples:
        >>> share_out(10, {"ann": 0.75, "bob": 0.2, "cid": 0.05})
        {'ann': 7, 'bob': 2, 'cid': 1}
    """
    floor = 1 if count >= len(shares) else 0
    exact = {name: share / sum(shares.values()) * count for name, share in shares.items()}
    given = {name: max(floor, int(value)) for name, value in exact.items()}
    while sum(given.values()) < count:
        given[max(given, key=lambda name: exact[name] - given[name])] += 1
    while sum(given.values()) > count:
        rich = [name for name in given if given[name] > floor]
        given[max(rich, key=lambda name: given[name] - exact[name])] -= 1
    return given


def _key(split: str, speaker: str) -> tuple[int, int]:
    return SPLITS.index(split), crc32(speaker.encode())


def _mix_utterance(
    speech: np.ndarray,
    noise_pool: NoisePool,
    split: str,
    number: int,
    rng: np.random.Generator,
    audio_dir: Path,
    utterance: str,
) -> dict[str, str]:
    """Mix one utterance, write both files, and return its row of metadata."""
    noise, kind, name = noise_pool.draw(len(speech), rng)
    snr = TEST_SNRS[number % len(TEST_SNRS)] if split == "test" else rng.uniform(*SNR_RANGE)
    level = rng.uniform(*LEVEL_RANGE)
    mixture, reference, gain = mix_at_snr(speech, noise, snr, level, RATE)
    for folder, signal in (("mixture", mixture), ("reference", reference)):
        write_audio(audio_dir / folder / f"{utterance}.wav", signal, RATE)
    return {
        "seconds": f"{len(speech) / RATE:.3f}",
        "snr_db": f"{snr:.2f}",
        "noise_kind": kind,
        "noise": name,
        "level_db": f"{level:.2f}",
        "gain": f"{gain:.4f}",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`prepare_mini`."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--corpus_dir", default="downloads", help="downloads and audio go here")
    parser.add_argument("--data_dir", default="data", help="data directories go here")
    for split in SPLITS:
        parser.add_argument(f"--{split}_utts", type=int, metavar="N")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--nj", type=at_least_one, default=cpu_cores(), help="number of threads")
    parser.add_argument("--source_dir", help="folder or mirror with the .deb and .whl files")
    options = parser.parse_args(arguments)
    prepare_mini(**vars(options))
    print(f"data directories: {options.data_dir}/{{{','.join(SPLITS)}}}")


if __name__ == "__main__":
    run_command(main)
