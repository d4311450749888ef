"""What the stages that write audio share: checked reading, and resumable work in shards."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.datadir import DataDir, raise_problems, read_audio, signal_fault

SHARD_SIZE = 50

#: Work on one shard: number, utterances, and a list to add problems to -> result by utterance.
ShardWork = Callable[[int, Sequence[str], list[str]], dict[str, Any]]


def read_pair(data: DataDir, utterance: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Read mixture and reference of an utterance and check that they belong together.

    Returns:
        Mixture (T, M), reference (T, M'), sampling rate in Hz.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: One is unreadable, empty, silent or not finite, or the two differ in length or
            rate.
    """
    mixture, rate = read_audio(data.mixture[utterance])
    reference, reference_rate = read_audio(data.reference[utterance])
    for name, signal in (("mixture", mixture), ("reference", reference)):
        if fault := signal_fault(signal):
            raise ValueError(f"the {name} {fault}")
    if rate != reference_rate:
        raise ValueError(f"the mixture has {rate} Hz, the reference {reference_rate} Hz")
    if len(mixture) != len(reference):
        raise ValueError(f"the mixture has {len(mixture)} samples, the reference {len(reference)}")
    return mixture, reference, rate


def headroom_gain(*signals: np.ndarray) -> float:
    """Gain of at most 1 that keeps all signals within the range of fixed-point audio."""
    peak = max(float(np.abs(signal).max(initial=0)) for signal in signals)
    return min(1.0, 0.999 / peak) if peak else 1.0


def process_in_shards(
    data: DataDir, work: ShardWork, folder: Path, options: dict, nj: int, description: str
) -> dict[str, Any]:
    """Work through a data directory in shards, each recorded when done, so that it can resume.

    Shards finished by an earlier run with the same options and input files are not done again;
    with other options or files ``folder`` is emptied first.

    Args:
        data: What to work on.
        work: Work on one shard; a problem with an utterance is added to its list, not raised.
        folder: Where ``work`` writes and the records are kept.
        options: Everything that determines the result beside the input.
        nj: Number of threads.
        description: Label of the progress bar.

    Returns:
        Result by utterance.

    Raises:
        ValueError: There were problems; all utterances have been tried.
    """
    state = json.dumps({**options, "input": fingerprint(data)})
    record = folder / "options.json"
    if not record.exists() or record.read_text() != state:
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_write(record) as temporary:
            temporary.write_text(state)
    utterances = list(data.mixture)
    shards = [utterances[i : i + SHARD_SIZE] for i in range(0, len(utterances), SHARD_SIZE)]
    problems: list[str] = []

    def do(number: int) -> dict[str, Any]:
        done = folder / f"shard_{number}.json"
        if done.exists():
            return json.loads(done.read_text())
        found: list[str] = []
        results = work(number, shards[number], found)
        problems.extend(found)
        if not found:
            with atomic_write(done) as temporary:
                temporary.write_text(json.dumps(results))
        return results

    results: dict[str, Any] = {}
    with ThreadPoolExecutor(nj) as pool, tqdm(total=len(utterances), desc=description) as bar:
        for result in pool.map(do, range(len(shards))):
            results |= result
            bar.update(len(result))
    raise_problems(description, sorted(problems))
    return results


def fingerprint(data: DataDir) -> str:
    """Changes when an entry, or size or date of a file, does; missing files are all reported."""
    digest, problems = hashlib.sha256(), []
    for table in (data.mixture, data.reference):
        for utterance, entry in table.items():
            path = Path(entry if Path(entry).is_file() else entry.rpartition(":")[0])
            if not path.is_file():
                problems.append(f"{utterance}: audio file {entry} does not exist")
                continue
            stat = path.stat()
            digest.update(f"{utterance} {entry} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    raise_problems(f"audio (paths seen from {Path.cwd()})", problems)
    return digest.hexdigest()
