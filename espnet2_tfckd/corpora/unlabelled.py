"""Recordings without references, cut into pieces, for a teacher to give them references."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet2_tfckd.cli import at_least_one, run_command
from espnet2_tfckd.corpora.inspection import Problem, in_threads, report_problems
from espnet2_tfckd.corpora.preparation import preparing
from espnet2_tfckd.corpora.splits import SPEAKER_PATTERN, name_fault, utterance_id
from espnet2_tfckd.data.audio import audio_files, read_audio, write_audio
from espnet2_tfckd.data.datadir import DataDir, write_data_dir
from espnet2_tfckd.data.entries import signal_fault
from espnet2_tfckd.data.paths import make_own_folder, refuse_overlap
from espnet2_tfckd.data.shards import headroom_gain
from espnet2_tfckd.processes import cpu_cores

NAME = "recordings"  # of the data directory
SPEAKER = "unlabelled"
PIECE_SECONDS = 10.0
SHORTEST_SECONDS = 0.5


def prepare_unlabelled(unlabelled_dir: str | Path, data_dir: str | Path, nj: int = 1) -> None:
    """Make the data directory ``<data_dir>/recordings`` of noisy recordings.

    Recordings are cut into equal pieces of 10 s at most, at their own rate and with all their
    channels; pieces without any sound are left out. As nobody knows the speech in them, each piece
    stands for its own reference, until a teacher has enhanced it.

    Args:
        unlabelled_dir: Folder of audio in any format, searched in depth.
        data_dir: Where the data directory is written, and the pieces in its sub-folder ``audio``.
        nj: Number of threads.

    Raises:
        FileNotFoundError: If the folder is missing, or holds no audio.
        ValueError: If recordings cannot be used; ``<data_dir>/bad_files.txt`` lists all of them. Or
            if they lie where this writes.
        RuntimeError: If another process is working on ``data_dir``.
    """
    folder, data_dir = Path(unlabelled_dir), Path(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder (seen from {Path.cwd()})")
    files = {str(path.relative_to(folder)): path for path in audio_files(folder)}
    if not files:
        raise FileNotFoundError(f"{folder} holds no audio files: name a folder of recordings")
    refuse_overlap([data_dir], [folder])
    with preparing(data_dir, files.values(), {"seconds": PIECE_SECONDS}, names=[NAME]) as is_due:
        if not is_due:
            return
        audio_dir = make_own_folder(data_dir / "audio", files.values())
        data, problems, taken = DataDir({}, {}, {}), [], {}
        for name, path in files.items():
            if (first := taken.setdefault(_utterance(name), path)) != path:
                text = f"would get the same id as {first}: rename one of them"
                problems.append(Problem(str(path), text))

        def cut(named: tuple[str, Path]) -> tuple[dict[str, str], Problem | None]:
            return _cut(*named, audio_dir)

        first = set(taken.values())
        distinct = {name: path for name, path in files.items() if path in first}
        for pieces, problem in in_threads(cut, distinct.items(), nj, "cutting recordings"):
            problems += [problem] if problem else []
            data.mixture |= pieces
        remedy = "Fix the files, or move them out of the folder"
        report_problems(problems, data_dir / "bad_files.txt", False, remedy)
        data.reference = dict(data.mixture)
        data.speaker = dict.fromkeys(data.mixture, SPEAKER)
        write_data_dir(data_dir / NAME, data)
        print(f"{len(files)} recordings without references in {len(data)} pieces")


def _utterance(name: str) -> str:
    """The id of a recording by its path in the folder."""
    return utterance_id(str(Path(name).with_suffix("")), SPEAKER)


def _cut(name: str, path: Path, audio_dir: Path) -> tuple[dict[str, str], Problem | None]:
    """The pieces of a recording by utterance id, or why it cannot be used."""
    if fault := name_fault(name, SPEAKER_PATTERN):
        return {}, Problem(ascii(str(path)), fault)
    try:
        signal, rate = read_audio(path)
    except (ValueError, OSError) as error:
        return {}, Problem(str(path), str(error).removeprefix(f"{path} "))
    if fault := signal_fault(signal):
        return {}, Problem(str(path), f"{fault}: replace or remove it")
    if len(signal) < SHORTEST_SECONDS * rate:
        return {}, Problem(str(path), f"lasts less than {SHORTEST_SECONDS:g} s: remove it")
    count = math.ceil(len(signal) / (PIECE_SECONDS * rate))
    signal = signal * headroom_gain(signal)
    pieces = {}
    for number, piece in enumerate(np.array_split(signal, count)):
        if signal_fault(piece) is None:
            utterance = f"{_utterance(name)}-{number:04d}"
            pieces[utterance] = str(audio_dir / f"{utterance}.wav")
            write_audio(audio_dir / f"{utterance}.wav", piece, rate)
    return pieces, None


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`prepare_unlabelled`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unlabelled_dir", required=True, help="folder of noisy recordings")
    parser.add_argument("--data_dir", required=True, help="the data directory goes here")
    parser.add_argument("--nj", type=at_least_one, default=cpu_cores(), help="number of threads")
    prepare_unlabelled(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    run_command(main)
