"""Stage 2: make copies of a data directory that are faster and slower, in mixture and reference."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import soxr

from espnet2_tfckd.cli import at_least_one, run_command
from espnet2_tfckd.data.audio import write_audio
from espnet2_tfckd.data.datadir import DataDir, read_data_dir, source_files, write_data_dir
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.data.paths import refuse_overlap
from espnet2_tfckd.data.shards import headroom_gain, process_in_shards, read_pair


def speed_perturb(
    in_dir: str | Path, out_dir: str | Path, factors: Sequence[float], nj: int = 1
) -> None:
    """Write a data directory that holds one copy of ``in_dir`` for each speed factor.

    A factor changes pitch and tempo together. As in Kaldi, ids of a copy are prefixed ``sp0.9-``,
    speaker ids too, and the copy with factor 1 is the original itself.

    Args:
        in_dir: Data directory to read.
        out_dir: Data directory to write; audio goes to its sub-folder ``audio``.
        factors: Speed factors, each once, e.g. 0.9, 1.0, 1.1.
        nj: Number of threads.

    Raises:
        FileNotFoundError: If ``in_dir`` is not a data directory, or audio is missing.
        ValueError: If factors make no sense, utterances cannot be used (they are listed), or audio
            of ``in_dir`` lies where this writes.
        RuntimeError: If another process is working on ``out_dir``.
    """
    if not factors or len(set(factors)) < len(factors) or not all(0.5 <= f <= 2 for f in factors):
        raise ValueError(f"speed factors must be distinct and between 0.5 and 2, got {factors}")
    source, out_dir = read_data_dir(in_dir), Path(out_dir)
    refuse_overlap([out_dir / "audio"], source_files(source))
    together = DataDir({}, {}, {})
    with only_one(out_dir):
        for factor in factors:
            copy = source if factor == 1 else _copy(source, out_dir, factor, nj)
            for name, table in vars(copy).items():
                getattr(together, name).update(table)
        write_data_dir(out_dir, together)


def _copy(source: DataDir, out_dir: Path, factor: float, nj: int) -> DataDir:
    prefix = f"sp{factor:g}-"
    folder = out_dir / "audio" / prefix.rstrip("-")

    def work(_number: int, utterances: Sequence[str], problems: list[str]) -> dict[str, list[str]]:
        entries = {}
        for utterance in utterances:
            try:
                mixture, reference, rate = read_pair(source, utterance)
            except (ValueError, OSError) as error:
                problems.append(f"{utterance}: {error}")
                continue
            faster = [soxr.resample(signal, rate * factor, rate) for signal in (mixture, reference)]
            if not len(faster[0]):
                problems.append(f"{utterance}: lasts less than a sample at speed {factor:g}")
                continue
            gain = headroom_gain(*faster)
            paths = [folder / kind / f"{utterance}.wav" for kind in ("mixture", "reference")]
            for path, signal in zip(paths, faster, strict=True):
                write_audio(path, signal * gain, rate)
            entries[utterance] = [str(path) for path in paths]
        return entries

    options = {"factor": factor}
    entries = process_in_shards(source, work, folder, options, nj, f"speed {factor:g}")
    return DataDir(
        {prefix + u: mixture for u, (mixture, _) in entries.items()},
        {prefix + u: reference for u, (_, reference) in entries.items()},
        {prefix + u: prefix + speaker for u, speaker in source.speaker.items()},
        {prefix + u: text for u, text in source.text.items()},
        {prefix + u: _row(row, prefix, factor) for u, row in source.metadata.items()},
    )


def _row(row: dict[str, str], prefix: str, factor: float) -> dict[str, str]:
    """Metadata of a copy, with the columns adapted that speed changes."""
    changed = dict(row)
    if "speaker" in row:
        changed["speaker"] = prefix + row["speaker"]
    if "seconds" in row:
        changed["seconds"] = f"{float(row['seconds']) / factor:.3f}"
    return changed


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`speed_perturb`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("in_dir", help="data directory to read")
    parser.add_argument("out_dir", help="data directory to write")
    parser.add_argument("--factors", required=True, help='such as "0.9 1.0 1.1"')
    parser.add_argument("--nj", type=at_least_one, default=1, help="number of threads")
    options = parser.parse_args(arguments)
    try:
        factors = [float(factor) for factor in options.factors.split()]
    except ValueError:
        parser.error(f"--factors takes numbers, got {options.factors!r}")
    speed_perturb(options.in_dir, options.out_dir, factors, options.nj)
    print(f"speed-perturbed data directory: {options.out_dir}")


if __name__ == "__main__":
    run_command(main)
