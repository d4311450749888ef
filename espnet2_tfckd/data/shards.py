"""Shared by the stages that write audio: checked reading, and resumable work in shards."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.data.datadir import DataDir, raise_problems
from espnet2_tfckd.data.entries import file_of, read_entry, signal_fault
from espnet2_tfckd.data.freshness import (
    NOT_MADE,
    audio_of,
    change,
    digest_of,
    made_of,
    read_record,
    write_record,
)

SHARD_SIZE = 50  # utterances, at least
MOST_SHARDS = 500  # so that a corpus of hundreds of hours is not tens of thousands of files

#: Work on one shard: number, utterances, and a list to add problems to -> result by utterance.
ShardWork = Callable[[int, Sequence[str], list[str]], dict[str, Any]]


def read_pair(data: DataDir, utterance: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Read mixture and reference of an utterance and check that they belong together.

    Returns:
        Mixture (T, M), reference (T, M'), sampling rate in Hz.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is unreadable, empty, silent or not finite, or the two differ in
            length or rate.
    """
    mixture, rate = read_entry(data.mixture[utterance])
    is_one = data.mixture[utterance] == data.reference[utterance]
    reference, reference_rate = (mixture, rate) if is_one else read_entry(data.reference[utterance])
    for name, signal in (("mixture", mixture), ("reference", reference)):
        if fault := signal_fault(signal):
            raise ValueError(f"the {name} {fault}")
    if rate != reference_rate:
        raise ValueError(f"the mixture has {rate} Hz, the reference {reference_rate} Hz")
    if len(mixture) != len(reference):
        raise ValueError(f"the mixture has {len(mixture)} samples, the reference {len(reference)}")
    return mixture, reference, rate


def headroom_gain(*signals: np.ndarray) -> float:
    """The gain, at most 1, that keeps all signals within the range of fixed-point audio."""
    peak = max(float(np.abs(signal).max(initial=0)) for signal in signals)
    return min(1.0, 0.999 / peak) if peak else 1.0


def process_in_shards(
    data: DataDir,
    work: ShardWork,
    folder: Path,
    options: dict,
    nj: int,
    description: str,
    revision: int = 1,
) -> dict[str, Any]:
    """Work through a data directory in shards that are recorded when done, so that reruns resume.

    Shards that an earlier run finished are not done again while the contents of their audio files,
    the folder, the options and the revision of the code are the same.

    Args:
        data: What to work on.
        work: Work on one shard; a problem with an utterance is added to its list, not raised.
        folder: Where ``work`` writes and the records are kept; for nothing else.
        options: Everything else that determines the result besides the input.
        nj: Number of threads.
        description: Label of the progress bar.
        revision: Revision of the code of ``work``; raise it when the same input gives another
            result.

    Returns:
        Result by utterance.

    Raises:
        ValueError: If files are missing, utterances have problems (all are tried first), or
            ``folder`` holds something else.
    """
    utterances = list(data.mixture)
    files = audio_of(data)
    missing = [
        f"{name}: {path} does not exist" for name, path in files.items() if not path.exists()
    ]
    raise_problems(f"audio (paths seen from {Path.cwd()})", missing)
    _claim(folder, {**options, "utterances": digest_of(utterances), "revision": revision})
    size = max(SHARD_SIZE, math.ceil(len(utterances) / MOST_SHARDS))
    shards = [utterances[i : i + size] for i in range(0, len(utterances), size)]
    problems: list[str] = []
    reasons: dict[str, int] = {}

    def do(number: int) -> dict[str, Any]:
        record, shard = folder / f"shard_{number}.json", shards[number]
        before = read_record(record)
        paths = digest_of([(data.mixture[u], data.reference[u]) for u in shard])
        made = made_of(
            audio_of(data, shard),
            {**options, "paths": paths, "folder": str(folder)},  # results name files in it
            {"revision": revision},
            before,
        )
        reason = change(before, made)
        if not reason and not all(path.exists() for path in _written(before["results"], folder)):
            reason = "what was written is gone"
        if not reason:
            return before["results"]
        reasons[reason] = reasons.get(reason, 0) + len(shard)
        found: list[str] = []
        results = work(number, shard, found)
        problems.extend(found)
        if not found:
            write_record(record, {**made, "results": results})
        return results

    results: dict[str, Any] = {}
    with ThreadPoolExecutor(nj) as pool, tqdm(total=len(utterances), desc=description) as bar:
        for result in pool.map(do, range(len(shards))):
            results |= result
            bar.update(len(result))
    raise_problems(description, sorted(problems))
    for reason, count in reasons.items():
        if reason != NOT_MADE:
            print(f"{description}: {count} utterances again, since {reason}")
    if not reasons:
        print(f"{description}: up to date")
    return results


def _written(results: Any, folder: Path) -> Iterator[Path]:
    """The files in ``folder`` that the results of a shard name."""
    if isinstance(results, str):
        if results.startswith(f"{folder}/"):
            yield file_of(results)
    elif isinstance(results, (dict, list)):
        for value in results.values() if isinstance(results, dict) else results:
            yield from _written(value, folder)


def _claim(folder: Path, options: dict) -> None:
    """Take a folder for our use; remove from it what was made for other options or utterances.

    Raises:
        ValueError: If it holds something that this project did not put there.
    """
    record = folder / "options.json"
    if not record.exists() and folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} holds files that this recipe did not write and would overwrite: "
            "move them, or write to another directory"
        )
    state = json.dumps(options)
    if record.exists() and record.read_text(encoding="utf-8") == state:
        return
    # written first, so that what an interrupted clean-up leaves is known as ours
    with atomic_write(record) as temporary:
        temporary.write_text(state, encoding="utf-8")
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != record:
            path.unlink()
