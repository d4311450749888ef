"""Checking every recording of a corpus, and listing all that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.data.audio import holds_floats
from espnet2_tfckd.data.datadir import raise_problems
from espnet2_tfckd.data.entries import read_entry, signal_fault

FULL_SCALE = 0.999
CLIPPED = 2e-3  # share of samples at full scale that counts as clipped
SAME = 1e-7  # power of the difference to that of the reference, -70 dB

Item = TypeVar("Item")
Result = TypeVar("Result")


class Problem(NamedTuple):
    """What is wrong with one file (or folder), with the remedy."""

    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


@dataclass
class Recording:
    """The contents of a file, as far as it could be read.

    Attributes:
        rate: Sampling rate in Hz.
        frames: Samples per channel.
        channels: Number of channels.
        faults: Why it is useless.
        clipped: Share of samples at full scale in its loudest channel.
    """

    rate: int = 0
    frames: int = 0
    channels: int = 0
    faults: list[str] = field(default_factory=list)
    clipped: float = 0.0

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate if self.rate else 0.0


def inspect(path: str | Path) -> Recording:
    """Read a whole recording and say what is wrong with it."""
    return _inspect(path)[0]


def _inspect(path: str | Path) -> tuple[Recording, np.ndarray]:
    try:
        samples, rate = read_entry(str(path))
    except (ValueError, OSError) as error:
        text = str(error).removeprefix(f"{path} ")
        return Recording(faults=[f"{text}: restore or remove it"]), np.zeros((0, 1))
    recording = Recording(rate, *samples.shape)
    if fault := signal_fault(samples):
        recording.faults.append(f"{fault}: replace or remove it")
    else:
        recording.clipped = max(clipped_share(channel, path) for channel in samples.T)
    return recording, samples


def clipped_share(signal: np.ndarray, path: str | Path) -> float:
    """Share of a file's samples at full scale, or at the peak if floats exceed full scale."""
    level = np.abs(signal)
    peak = float(level.max(initial=0))
    is_float = peak > 1 and holds_floats(path)  # other files clip, and decoding or resampling rings
    return float((level >= FULL_SCALE * (peak if is_float else 1.0)).mean())


def inspect_pair(mixture: str | Path, reference: str | Path) -> tuple[Recording, list[Problem]]:
    """Inspect mixture and reference, and compare them.

    Returns:
        The mixture, and why the pair is useless: faults of a file, unequal rates or lengths, or
        equal signals.
    """
    (noisy, mixed), (clean, target) = _inspect(mixture), _inspect(reference)
    problems = [Problem(str(mixture), fault) for fault in noisy.faults]
    problems += [Problem(str(reference), fault) for fault in clean.faults]
    if not problems:
        text = None
        if noisy.rate != clean.rate:
            text = f"has {noisy.rate} Hz, its reference {clean.rate} Hz: resample one of them"
        elif noisy.frames != clean.frames:
            text = (
                f"has {noisy.frames} samples, its reference {clean.frames}: align and cut them "
                "alike"
            )
        elif _is_same(mixed[:, 0], target[:, 0]):
            text = "is the same as its reference, so that there is no noise to learn: remove both"
        problems += [Problem(str(mixture), text)] if text else []
    noisy.clipped = max(noisy.clipped, clean.clipped)
    return noisy, problems


def _is_same(mixture: np.ndarray, reference: np.ndarray) -> bool:
    difference, wanted = (np.square(s, dtype=float).sum() for s in (mixture - reference, reference))
    return bool(difference <= SAME * wanted)


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], nj: int, description: str
) -> list[Result]:
    """Results of ``work`` in the order of the items, with a progress bar."""
    items = list(items)
    with ThreadPoolExecutor(nj) as pool:
        return list(tqdm(pool.map(work, items), description, len(items), unit="file"))


def report_problems(
    problems: Iterable[Problem],
    report: Path,
    go_on: bool,
    remedy: str,
    noted: Sequence[Problem] = (),
) -> None:
    """Write all problems into one file; raise an error that shows the first, or go on.

    Args:
        problems: The problems that were found.
        report: The list of all of them; removed if there are none.
        go_on: Only count the problems; the caller leaves out what cannot be used.
        remedy: What to do about them, for the message.
        noted: Further lines for the list that are not a reason to stop.

    Raises:
        ValueError: If there are problems and ``go_on`` is false.
    """
    lines, notes = (sorted(str(problem) for problem in some) for some in (problems, noted))
    report.unlink(missing_ok=True)
    if lines or notes:
        with atomic_write(report) as temporary:
            temporary.write_text("\n".join(lines + notes) + "\n", encoding="utf-8")
    if not go_on:
        raise_problems(f"{report} lists every problem. {remedy}", lines)
    for found, what in ((lines, "problems"), (notes, "remarks")):
        if found:
            print(f"note: {len(found)} {what} are listed in {report}")
