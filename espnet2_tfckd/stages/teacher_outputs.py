"""End of stage 6: write a teacher's estimates of the training mixtures, for schemes on outputs."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, median

import numpy as np

from espnet2_tfckd.cli import at_least_one, atomic_write, run_command
from espnet2_tfckd.data.audio import write_audio
from espnet2_tfckd.data.datadir import DataDir, read_data_dir
from espnet2_tfckd.data.entries import read_channel, read_entry
from espnet2_tfckd.data.freshness import made_of, without_stamps
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.data.shards import process_in_shards

SCP = "teacher.scp"  # in the output directory: the estimate of each utterance
PROBES = 12  # utterances by which the delay is found
MAX_DELAY_SECONDS = 0.2
REVISION = 1  # raise it when the same teacher's estimates are written differently

#: Reads one wav file and writes another: the teacher at work.
Enhance = Callable[[Path, Path], None]


def teacher_outputs(
    data_dir: str | Path,
    output_dir: str | Path,
    model: str | None = None,
    command: str | None = None,
    nj: int = 1,
) -> Path:
    """Write a teacher's estimate of every mixture, aligned with it, at its rate and length.

    A constant delay of the teacher is found on a few utterances, reported, and removed.

    Args:
        data_dir: Formatted data directory.
        output_dir: Where to write: ``wavs/`` and ``teacher.scp``; estimates that are up to date
            stay.
        model: The teacher: experiment directory, folder of an ONNX export, packed ``.zip``, or id
            on the hub.
        command: Or a command that enhances one file, with the words ``{input}`` and ``{output}``.
        nj: Utterances at a time.

    Returns:
        Path of ``teacher.scp``.

    Raises:
        ValueError: If an estimate is not finite, has another length than its mixture beyond a
            delay, or the delay differs between utterances; or if the command lacks a placeholder.
        RuntimeError: If the command fails, or another process is working on the directory.
    """
    data, output_dir = read_data_dir(data_dir), Path(output_dir)
    if command is not None:
        enhance, identity = _by_command(command), {"command": command}
    else:
        enhance, identity = _by_model(model)
    with only_one(output_dir):
        delay = _delay(data, enhance)
        work = partial(_write_shard, data, enhance, delay, output_dir / "wavs")
        entries = process_in_shards(
            data,
            work,
            output_dir / "wavs",
            {**identity, "delay": delay},
            nj,
            f"teacher's estimates, {Path(data_dir).name}",
            REVISION,
        )
        with atomic_write(output_dir / SCP) as file:
            lines = (f"{utterance} {entries[utterance]}\n" for utterance in data.mixture)
            file.write_text("".join(lines), encoding="utf-8")
    return output_dir / SCP


def _by_model(model: str) -> tuple[Enhance, dict]:
    """The teacher as a model, and what tells it from others."""
    from espnet2_tfckd.deploy.enhancer import CHECKPOINT, load_enhancer, model_folder
    from espnet2_tfckd.deploy.files import enhance_file
    from espnet2_tfckd.models.inference import model_made_of

    folder = model_folder(model)
    enhancer = load_enhancer(str(folder))
    enhancer.use_threads(1)

    def enhance(source: Path, target: Path) -> None:
        outcome = enhance_file(enhancer, str(source), str(target))
        if outcome.error:
            raise RuntimeError(outcome.error)

    if (folder / "meta.json").is_file():
        files = {path.name: path for path in [folder / "meta.json", *folder.glob("*.onnx")]}
        return enhance, {"model": without_stamps(made_of(files))["files"]}
    return enhance, {"model": without_stamps(model_made_of(folder, CHECKPOINT))["files"]}


def _by_command(command: str) -> Enhance:
    words = shlex.split(command)
    for placeholder in ("{input}", "{output}"):
        if not any(placeholder in word for word in words):
            raise ValueError(
                f"the teacher's command has no {placeholder}, as in 'enhance {{input}} {{output}}':"
                f" {command}"
            )

    def enhance(source: Path, target: Path) -> None:
        call = [
            word.replace("{input}", str(source)).replace("{output}", str(target)) for word in words
        ]
        try:
            done = subprocess.run(call, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise RuntimeError(f"the teacher's command cannot be run: {error}") from error
        if done.returncode or not target.is_file():
            said = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()
            what = f"failed (status {done.returncode})" if done.returncode else "wrote no output"
            raise RuntimeError(f"the teacher's command {what}: {said[-1]}")

    return enhance


def _estimate(entry: str, enhance: Enhance) -> tuple[np.ndarray, np.ndarray, int]:
    """First channel of a mixture, the estimate as the teacher gives it, and their rate.

    Shape:
        (T,) and (T',).
    """
    import soxr

    mixture, rate = read_entry(entry)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "mixture.wav", Path(folder) / "estimate.wav"
        write_audio(source, mixture, rate, "FLOAT")
        enhance(source, target)
        estimate, its_rate = read_channel(str(target), 0)
    if its_rate != rate:
        estimate = soxr.resample(estimate, its_rate, rate)
    return mixture[:, 0].astype(np.float64), estimate, rate


def _delay(data: DataDir, enhance: Enhance) -> int:
    """Samples by which the teacher's estimates come later than their mixtures.

    Raises:
        ValueError: If it is not the same for most utterances.
    """
    utterances = list(data.mixture)[:: max(1, len(data) // PROBES)][:PROBES]
    delays, rate, gains = [], 0, []
    for utterance in utterances:
        try:
            mixture, estimate, rate = _estimate(data.mixture[utterance], enhance)
        except (ValueError, RuntimeError) as error:
            raise type(error)(f"{utterance}: {error}") from error
        delays.append(lag(mixture, estimate, round(MAX_DELAY_SECONDS * rate)))
        gains.append(_decibels(estimate) - _decibels(mixture))
    common = int(median(delays))
    agreeing = sum(abs(delay - common) <= 2 for delay in delays)
    if agreeing < 0.75 * len(delays):
        raise ValueError(
            "the teacher's delay differs between utterances, so that its estimates cannot be "
            f"aligned with the mixtures: {sorted(delays)} samples. Take a teacher that keeps time"
        )
    print(
        f"the teacher's delay: {common} samples ({1000 * common / rate:.1f} ms)"
        f"{', removed' if common else ''}; its level to the mixture's: {fmean(gains):+.1f} dB"
    )
    return common


def lag(mixture: np.ndarray, estimate: np.ndarray, most: int) -> int:
    """Samples by which an estimate comes later than its mixture, by their correlation.

    Args:
        mixture: (T,).
        estimate: (T',).
        most: The largest lag, in either direction, that is looked for.

    Examples:
        >>> noise = np.random.default_rng(0).standard_normal(1000)
        >>> lag(noise, np.pad(noise, (40, 0)), 100), lag(noise, noise[7:], 100)
        (40, -7)
    """
    size = 1 << (len(mixture) + len(estimate)).bit_length()
    spectrum = np.fft.rfft(estimate, size) * np.conj(np.fft.rfft(mixture, size))
    correlation = np.fft.irfft(spectrum, size)
    lags = np.arange(-most, most + 1)
    return int(lags[np.argmax(np.abs(correlation[lags]))])


def _write_shard(
    data: DataDir,
    enhance: Enhance,
    delay: int,
    folder: Path,
    number: int,
    utterances: list[str],
    problems: list[str],
) -> dict[str, str]:
    """Work of :func:`process_in_shards`: an scp entry by utterance."""
    entries = {}
    for utterance in utterances:
        try:
            mixture, estimate, rate = _estimate(data.mixture[utterance], enhance)
            aligned = align(estimate, delay, len(mixture), round(MAX_DELAY_SECONDS * rate))
            path = folder / f"{utterance}.wav"
            write_audio(path, aligned, rate, "FLOAT")
            entries[utterance] = str(path)
        except (ValueError, RuntimeError) as error:
            problems.append(f"{utterance}: {error}")
    return entries


def align(estimate: np.ndarray, delay: int, length: int, tolerance: int) -> np.ndarray:
    """Take a delay out of an estimate and bring it to the length of its mixture.

    Args:
        estimate: (T',).
        delay: Samples by which it comes late; negative: early.
        length: Samples of the mixture, T.
        tolerance: How many samples it may be shorter or longer.

    Returns:
        (T,), padded with zeros where the teacher gave nothing.

    Raises:
        ValueError: If its length differs from the mixture's by more than the tolerance.

    Examples:
        >>> align(np.array([0.0, 0.0, 1.0, 2.0, 3.0]), 2, 4, 1)
        array([1., 2., 3., 0.])
    """
    if abs(len(estimate) - length) > tolerance:
        raise ValueError(
            f"the teacher's estimate has {len(estimate)} samples, its mixture {length}: take a "
            "teacher that keeps the length"
        )
    shifted = estimate[delay:] if delay >= 0 else np.pad(estimate, (-delay, 0))
    return np.pad(shifted[:length], (0, max(0, length - len(shifted))))


def _decibels(signal: np.ndarray) -> float:
    return 10 * np.log10(np.square(signal).mean() + 1e-12)


def get_parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.teacher_outputs", description=__doc__
    )
    parser.add_argument("--data_dir", required=True, help="formatted data directory")
    parser.add_argument("--output_dir", required=True, help="where to write the estimates")
    teacher = parser.add_mutually_exclusive_group(required=True)
    teacher.add_argument(
        "--model", help="experiment directory, ONNX folder, packed .zip, or <user>/<model>"
    )
    teacher.add_argument(
        "--command", help="enhances one file: 'my_enhancer {input} {output}', each a wav file"
    )
    parser.add_argument("--nj", type=at_least_one, default=1, help="utterances at a time")
    return parser


def main() -> None:
    """Run the stage from the command line."""
    args = get_parser().parse_args()
    scp = teacher_outputs(args.data_dir, args.output_dir, args.model, args.command, args.nj)
    print(f"Teacher's estimates: {scp}")


if __name__ == "__main__":
    run_command(main)
