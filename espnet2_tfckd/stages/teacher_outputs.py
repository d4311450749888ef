"""End of stage 6: write a teacher's estimates of the training mixtures, for schemes on outputs."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import numpy as np

from espnet2_tfckd.cli import at_least_one, atomic_write, read_json, run_command, write_json
from espnet2_tfckd.data.alignment import align, lag
from espnet2_tfckd.data.audio import write_audio
from espnet2_tfckd.data.datadir import DataDir, read_data_dir
from espnet2_tfckd.data.entries import decibels, entry_shape, read_channel, read_entry
from espnet2_tfckd.data.freshness import digest_of, made_of, without_stamps
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.data.shards import SHARD_SIZE, process_in_shards

SCP = "teacher.scp"  # in the output directory: the estimate of each utterance
PROBES = 12  # utterances by which the delay is found
MAX_DELAY_SECONDS = 0.2
REVISION = 1  # raise it when the same teacher's estimates are written differently


@dataclass(frozen=True)
class Teacher:
    """A teacher at work.

    Attributes:
        enhance: Function from a folder of wav files to another, which gets files of their names.
        batch: Utterances that are given to it at a time.
        identity: What tells it from others.
    """

    enhance: Callable[[Path, Path], None]
    batch: int
    identity: dict


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
        command: Or a command that enhances one wav file, with the words ``{input}`` and
            ``{output}``, or all those of a folder into another, with ``{inputs}`` and
            ``{outputs}``: a process for every 50 utterances instead of one each.
        nj: Utterances at a time.

    Returns:
        Path of ``teacher.scp``.

    Raises:
        ValueError: If an estimate is not finite, has another length than its mixture beyond a
            delay, or the delay differs between utterances; or if the command lacks a placeholder.
        RuntimeError: If the command fails, or another process is working on the directory.
    """
    data, output_dir = read_data_dir(data_dir), Path(output_dir)
    teacher = _by_model(model) if command is None else _by_command(command)
    with only_one(output_dir):
        delay = _known_delay(output_dir / "delay.json", data, teacher)
        work = partial(_write_shard, data, teacher, delay, output_dir / "wavs")
        entries = process_in_shards(
            data,
            work,
            output_dir / "wavs",
            {**teacher.identity, "delay": delay},
            nj,
            f"teacher's estimates, {Path(data_dir).name}",
            REVISION,
        )
        with atomic_write(output_dir / SCP) as file:
            lines = (f"{utterance} {entries[utterance]}\n" for utterance in data.mixture)
            file.write_text("".join(lines), encoding="utf-8")
    return output_dir / SCP


def _by_model(model: str) -> Teacher:
    from espnet2_tfckd.deploy.enhancer import CHECKPOINT, load_enhancer, model_folder
    from espnet2_tfckd.deploy.files import enhance_file
    from espnet2_tfckd.models.inference import model_made_of

    folder = model_folder(model)
    enhancer = load_enhancer(str(folder))
    enhancer.use_threads(1)

    def enhance(sources: Path, targets: Path) -> None:
        for source in sources.iterdir():
            outcome = enhance_file(enhancer, str(source), str(targets / source.name))
            if outcome.error:
                raise RuntimeError(outcome.error)

    if (folder / "meta.json").is_file():
        made = made_of({path.name: path for path in [folder / "meta.json", *folder.glob("*.onnx")]})
    else:
        made = model_made_of(folder, CHECKPOINT)
    return Teacher(enhance, 1, {"model": without_stamps(made)["files"]})


def _by_command(command: str) -> Teacher:
    words = shlex.split(command)
    batch = SHARD_SIZE if any("{inputs}" in word for word in words) else 1
    source_word, target_word = ("{inputs}", "{outputs}") if batch > 1 else ("{input}", "{output}")
    for placeholder in (source_word, target_word):
        if not any(placeholder in word for word in words):
            raise ValueError(
                f"the teacher's command has no {placeholder}, as in "
                f"'enhance {source_word} {target_word}': {command}"
            )

    def enhance(sources: Path, targets: Path) -> None:
        source, target = sources, targets
        if batch == 1:
            (source,) = sources.iterdir()
            target = targets / source.name
        call = [
            word.replace(source_word, str(source)).replace(target_word, str(target))
            for word in words
        ]
        try:
            done = subprocess.run(
                call, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
            )
        except OSError as error:
            raise RuntimeError(f"the teacher's command cannot be run: {error}") from error
        missing = [path.name for path in sources.iterdir() if not (targets / path.name).is_file()]
        if done.returncode or missing:
            said = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()
            what = f"failed (status {done.returncode})" if done.returncode else "wrote no output"
            raise RuntimeError(f"the teacher's command {what}: {said[-1]}")

    return Teacher(enhance, batch, {"command": command})


class _Estimate(NamedTuple):
    mixture: np.ndarray  #: first channel, (T,)
    estimate: np.ndarray  #: as the teacher gives it, at the rate of the mixture, (T',)
    rate: int


def _estimates(
    data: DataDir, teacher: Teacher, utterances: Sequence[str]
) -> Iterator[tuple[str, _Estimate]]:
    """The teacher's estimates of some utterances, which are given to it at once.

    Raises:
        RuntimeError: If the teacher fails.
        ValueError: If an estimate cannot be read. Either error names the utterance, or the first
            of them.
    """
    import soxr

    utterance = utterances[0]
    with tempfile.TemporaryDirectory() as folder:
        sources, targets = Path(folder) / "mixtures", Path(folder) / "estimates"
        try:
            for side in (sources, targets):
                side.mkdir()
            for utterance in utterances:
                mixture, rate = read_entry(data.mixture[utterance])
                write_audio(sources / f"{utterance}.wav", mixture, rate, "FLOAT")
            utterance = utterances[0]
            teacher.enhance(sources, targets)
            for utterance in utterances:
                mixture, rate = read_channel(str(sources / f"{utterance}.wav"), 0)
                estimate, its_rate = read_channel(str(targets / f"{utterance}.wav"), 0)
                if its_rate != rate:
                    estimate = soxr.resample(estimate, its_rate, rate)
                yield utterance, _Estimate(mixture.astype(np.float64), estimate, rate)
        except ValueError as error:
            raise ValueError(f"{utterance}: {error}") from error
        except RuntimeError as error:
            raise RuntimeError(f"{utterance}: {error}") from error


def _known_delay(record: Path, data: DataDir, teacher: Teacher) -> int:
    """The delay of the teacher in samples, which is measured once at each rate."""
    rate = entry_shape(next(iter(data.mixture.values())))[2]
    identity = digest_of([teacher.identity, rate])
    known = read_json(record, default={})
    if known.get("teacher") != identity:
        known = {"teacher": identity, "delay": _delay(data, teacher)}
        write_json(record, known)
    return known["delay"]


def _delay(data: DataDir, teacher: Teacher) -> int:
    """Samples by which the teacher's estimates come later than their mixtures.

    Raises:
        ValueError: If it is not the same for most utterances.
    """
    utterances = list(data.mixture)[:: max(1, len(data) // PROBES)][:PROBES]
    delays, rate, gains = [], 0, []
    for part in _batches(utterances, teacher.batch):
        for _, (mixture, estimate, rate) in _estimates(data, teacher, part):
            delays.append(lag(mixture, estimate, round(MAX_DELAY_SECONDS * rate)))
            gains.append(decibels(estimate) - decibels(mixture))
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


def _batches(utterances: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (utterances[start : start + size] for start in range(0, len(utterances), size))


def _write_shard(
    data: DataDir,
    teacher: Teacher,
    delay: int,
    folder: Path,
    number: int,
    utterances: Sequence[str],
    problems: list[str],
) -> dict[str, str]:
    """Work of :func:`process_in_shards`: an scp entry by utterance."""
    entries = {}
    for part in _batches(utterances, teacher.batch):
        try:
            for utterance, (mixture, estimate, rate) in _estimates(data, teacher, part):
                path, most = folder / f"{utterance}.wav", round(MAX_DELAY_SECONDS * rate)
                try:
                    write_audio(path, align(estimate, delay, len(mixture), most), rate, "FLOAT")
                    entries[utterance] = str(path)
                except ValueError as error:
                    problems.append(f"{utterance}: {error}")
        except (ValueError, RuntimeError) as error:
            problems.append(str(error))
    return entries


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
        "--command",
        help="enhances a wav file: 'my_enhancer {input} {output}', or a folder of wav files, which "
        "is faster: 'my_enhancer {inputs} {outputs}'",
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
