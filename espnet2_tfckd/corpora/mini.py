"""The mini corpus: real speech in real noise from freely licensed packages, 16 kHz, one channel.

Speakers, noises and packages are listed in ``mini_sources`` and, for more of them, in
``extended_sources``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np
from tqdm import tqdm

from espnet2_tfckd.cli import at_least_one, run_command
from espnet2_tfckd.corpora.extended_sources import EXTENDED
from espnet2_tfckd.corpora.mini_pools import SplitSources, package_sources, unpack_packages
from espnet2_tfckd.corpora.mini_sources import DEFAULT
from espnet2_tfckd.corpora.mixing import in_room, mix_at_snr
from espnet2_tfckd.corpora.pools import RATE, SpeechClip, speech_clips
from espnet2_tfckd.corpora.preparation import preparing
from espnet2_tfckd.corpora.sources import Sources
from espnet2_tfckd.data.audio import write_audio
from espnet2_tfckd.data.datadir import DataDir, write_data_dir
from espnet2_tfckd.data.paths import make_own_folder
from espnet2_tfckd.processes import cpu_cores

SOURCES = {"default": DEFAULT, "extended": EXTENDED}
TEST_SETS = ("test", "test_hard")
TEST_SNRS = (-2.5, 2.5, 7.5, 12.5)
SNR_RANGE = (-5.0, 15.0)
LEVEL_RANGE = (-32.0, -22.0)


def prepare_mini(
    corpus_dir: str | Path,
    data_dir: str | Path,
    *,
    sources: str = "default",
    train_utts: int | None = None,
    valid_utts: int | None = None,
    test_utts: int | None = None,
    test_hard_utts: int | None = None,
    seed: int = 1,
    nj: int = 1,
    source_dir: str | Path | None = None,
) -> None:
    """Make the data directories ``train``, ``valid`` and ``test`` below ``data_dir``.

    The extended sources have more of everything to train on, the same validation and test sets to
    the byte, and a second test set ``test_hard``.

    If they were made with the same options before, nothing is done. The same options give the same
    files to the byte, whatever ``nj`` is. With fewer utterances, those of each speaker are the
    first ones of the larger set.

    Args:
        corpus_dir: Where packages are fetched and unpacked, and ``mini/CREDITS.md`` or
            ``mini_extended/CREDITS.md`` is written.
        data_dir: Where the data directories are written; audio goes to
            ``audio/<split>/{mixture,reference}`` in it.
        sources: ``default`` or ``extended``.
        train_utts: Number of utterances of the training set (default: as the sources say);
            likewise ``valid_utts``, ``test_utts`` and ``test_hard_utts``. Every speaker gets at
            least one if the number allows.
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
    asked = {"train": train_utts, "valid": valid_utts, "test": test_utts}
    tables, counts = _resolve(sources, {**asked, "test_hard": test_hard_utts})
    _check_options(counts, seed, nj)
    options = {"counts": counts, "seed": seed, "sources": tables.digest}
    with preparing(data_dir, (), options, names=list(counts)) as is_due:
        if not is_due:
            return
        unpacked = unpack_packages(tables, corpus_dir, source_dir)
        for split, count in counts.items():
            of_split = package_sources(tables, unpacked, split, seed)
            audio_dir = make_own_folder(data_dir / "audio" / split)
            data = _build_split(of_split, count, seed, audio_dir, nj)
            write_data_dir(data_dir / split, data)
            minutes = sum(float(row["seconds"]) for row in data.metadata.values()) / 60
            speakers = sorted(set(data.speaker.values()))
            print(f"{split}: {len(data)} utterances, {minutes:.1f} minutes, {', '.join(speakers)}")


def _resolve(name: str, asked: Mapping[str, int | None]) -> tuple[Sources, dict[str, int]]:
    """The tables of a name, and the number of utterances of each split that they have."""
    if name not in SOURCES:
        raise ValueError(f"--sources takes {' or '.join(SOURCES)}, not {name}")
    tables = SOURCES[name]
    for split, count in asked.items():
        if count is not None and split not in tables.utterances:
            raise ValueError(f"--{split}_utts: the {name} sources have no {split} set")
    counts = dict(tables.utterances)
    return tables, counts | {s: n for s, n in asked.items() if n is not None}


def _check_options(counts: dict[str, int], seed: int, nj: int) -> None:
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f"--{split}_utts must be at least 1, got {count}")
    if seed < 0:
        raise ValueError(f"--seed must not be negative, got {seed}")
    if nj < 1:
        raise ValueError(f"--nj must be at least 1, got {nj}")


def _build_split(sources: SplitSources, count: int, seed: int, audio_dir: Path, nj: int) -> DataDir:
    utterances = _choose(sources, count, seed, nj)
    data = DataDir({}, {}, {})

    def mix(job: tuple[str, int, SpeechClip]) -> tuple[str, str, dict[str, str], list[Path]]:
        speaker, number, (speech, files) = job
        utterance = f"{speaker}-{sources.split}{number:04d}"
        rng = np.random.default_rng([seed, 1, *_key(sources, speaker), number])
        row = _mix_utterance(speech, sources, number, rng, audio_dir, utterance)
        row["sources"] = "|".join(str(file.relative_to(sources.root)) for file in files)
        return utterance, speaker, {"speaker": speaker, **row}, files

    with ThreadPoolExecutor(nj) as pool:
        results = pool.map(mix, utterances)
        progress = tqdm(results, f"mixing {sources.split}", len(utterances))
        for utterance, speaker, row, files in progress:
            data.mixture[utterance] = str(audio_dir / "mixture" / f"{utterance}.wav")
            data.reference[utterance] = str(audio_dir / "reference" / f"{utterance}.wav")
            data.speaker[utterance], data.metadata[utterance] = speaker, row
            if files[0] in sources.transcripts:
                data.text[utterance] = sources.transcripts[files[0]]
    return data


def _choose(
    sources: SplitSources, count: int, seed: int, nj: int
) -> list[tuple[str, int, SpeechClip]]:
    """The clips to mix: speaker, number among the speaker's clips, clip."""
    wanted = share_out(count, sources.shares)

    def choose(speaker: str) -> list[SpeechClip]:
        files = sources.speech[speaker]
        rng = np.random.default_rng([seed, 0, *_key(sources, speaker)])
        join = not any(file in sources.transcripts for file in files)
        clips = speech_clips(files, rng, join=join, tidy=sources.tidied)
        return list(islice(clips, wanted[speaker]))

    with ThreadPoolExecutor(nj) as pool:
        clips = dict(zip(wanted, pool.map(choose, wanted), strict=True))
    for speaker, found in clips.items():
        if len(found) < wanted[speaker]:
            print(f"note: {speaker} has speech for {len(found)} of {wanted[speaker]} utterances")
        if wanted[speaker] and not found:
            raise ValueError(
                f"speaker {speaker} ({sources.split}) has no usable speech of 2 s or more"
            )
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


def _key(sources: SplitSources, speaker: str) -> tuple[int, int]:
    return sources.number, crc32(speaker.encode())


def _mix_utterance(
    speech: np.ndarray,
    sources: SplitSources,
    number: int,
    rng: np.random.Generator,
    audio_dir: Path,
    utterance: str,
) -> dict[str, str]:
    """Mix one utterance, write both files, and return its row of metadata."""
    noise, kind, name = sources.noise.draw(len(speech), rng)
    fixed = TEST_SNRS[number % len(TEST_SNRS)]
    snr = fixed if sources.split in TEST_SETS else rng.uniform(*SNR_RANGE)
    level = rng.uniform(*LEVEL_RANGE)
    row = {}
    if sources.room is not None:
        in_it = number // len(TEST_SNRS) % 2 == 1  # at every SNR alike
        row["room"] = sources.room[0] if in_it else "none"
        speech = in_room(speech, sources.room[1]) if in_it else speech
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
        **row,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`prepare_mini`."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], argument_default=argparse.SUPPRESS
    )
    parser.add_argument("--corpus_dir", default="downloads", help="downloads and audio go here")
    parser.add_argument("--data_dir", default="data", help="data directories go here")
    parser.add_argument("--sources", default="default", choices=SOURCES, help="which packages")
    for split in EXTENDED.utterances:
        numbers = [f"{s.utterances[split]}" for s in SOURCES.values() if split in s.utterances]
        text = f"utterances (default {' or '.join(dict.fromkeys(numbers))})"
        parser.add_argument(f"--{split}_utts", type=int, metavar="N", help=text)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--nj", type=at_least_one, default=cpu_cores(), help="number of threads")
    parser.add_argument("--source_dir", help="folder or mirror with the .deb and .whl files")
    options = parser.parse_args(arguments)
    prepare_mini(**vars(options))
    names = ",".join(SOURCES[options.sources].utterances)
    print(f"data directories: {options.data_dir}/{{{names}}}")


if __name__ == "__main__":
    run_command(main)
