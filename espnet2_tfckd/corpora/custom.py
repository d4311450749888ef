"""Own data: pairs of mixture and reference, or clean speech and noise to be mixed."""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from espnet2_tfckd.cli import at_least_one, run_command, true_or_false
from espnet2_tfckd.corpora.custom_mixing import Mixing, material_of, mix_sets, usable_material
from espnet2_tfckd.corpora.custom_pairs import (
    pairs_of_folders,
    pairs_of_lists,
    sets_of_pairs,
    usable_pairs,
)
from espnet2_tfckd.corpora.inspection import report_problems
from espnet2_tfckd.corpora.preparation import SPLITS, preparing
from espnet2_tfckd.corpora.splits import SPEAKER_PATTERN, Splitting, check_pattern, without_unnamed
from espnet2_tfckd.data.datadir import TABLES, DataDir, write_data_dir
from espnet2_tfckd.data.entries import file_of
from espnet2_tfckd.data.freshness import RECORD
from espnet2_tfckd.data.paths import MARKER, refuse_overlap
from espnet2_tfckd.processes import cpu_cores

REMEDY = "Fix the files, or leave them out: --on_bad_file skip"
SOURCES = (
    ("mixture_dir", "reference_dir"),
    ("mixture_scp", "reference_scp"),
    ("speech_dir", "noise_dir"),
)


@dataclass(frozen=True)
class OwnData:
    """A user's data and how to divide it; exactly one pair of sources must be given.

    Attributes:
        mixture_dir: Folder of mixtures, searched in depth, any number of channels.
        reference_dir: Folder of references, at the same paths up to the suffix.
        mixture_scp: Instead, a list of mixtures, ``id file`` on each line, relative to the list.
        reference_scp: The same of references.
        speech_dir: Instead, a folder of clean speech to mix at 16 kHz, searched in depth.
        noise_dir: Noise to go with it.
        rir_dir: Room impulse responses to convolve both with; their channels become the mixture's.
        snr_range: Lowest and highest signal-to-noise ratio in dB of the mixtures that are made.
        mix_at_visit: Whether training speech is mixed anew each time it is visited, not once.
        heldout_utts: Mixtures in the validation and in the test set, at most; None for all.
        speaker_pattern: See :func:`espnet2_tfckd.corpora.splits.speaker_of`.
        valid_list: See :func:`espnet2_tfckd.corpora.splits.assign_sets`.
        test_list: The same for the test set.
        seed: Seed of all choices.
        on_bad_file: ``error``, or ``skip`` to leave out what cannot be used.
    """

    mixture_dir: str | None = None
    reference_dir: str | None = None
    mixture_scp: str | None = None
    reference_scp: str | None = None
    speech_dir: str | None = None
    noise_dir: str | None = None
    rir_dir: str | None = None
    snr_range: tuple[float, float] = (-5.0, 15.0)
    mix_at_visit: bool = False
    heldout_utts: int | None = None
    speaker_pattern: str = SPEAKER_PATTERN
    valid_list: str | None = None
    test_list: str | None = None
    seed: int = 1
    on_bad_file: str = "error"

    def __post_init__(self):
        given = [pair for pair in SOURCES if any(getattr(self, name) for name in pair)]
        if len(given) != 1 or not all(getattr(self, name) for name in given[0]):
            pairs = ", or ".join(f"--{first} and --{second}" for first, second in SOURCES)
            raise ValueError(f"give either {pairs}")
        if self.rir_dir and not self.speech_dir:
            raise ValueError("--rir_dir goes with --speech_dir and --noise_dir only")
        if (self.mix_at_visit or self.heldout_utts) and not self.speech_dir:
            raise ValueError(
                "--mix_at_visit and --heldout_utts go with --speech_dir and --noise_dir only"
            )
        if not self.snr_range[0] <= self.snr_range[1]:
            raise ValueError("--snr_range is the lowest, then the highest ratio: '-5 15'")
        check_pattern(self.speaker_pattern)
        if self.seed < 0:
            raise ValueError(f"--seed must not be negative, got {self.seed}")

    @property
    def splitting(self) -> Splitting:
        """The options by which recordings are divided."""
        return Splitting(**{f.name: getattr(self, f.name) for f in fields(Splitting)})


def prepare_custom(own: OwnData, data_dir: str | Path, nj: int = 1) -> None:
    """Make the data directories ``train``, ``valid`` and ``test`` below ``data_dir``.

    Every file is read and checked; what cannot be used is listed in ``<data_dir>/bad_files.txt``.
    Pairs stay where they are; new mixtures go to ``<data_dir>/audio``. If the same options and
    files were used before, nothing is done.

    Args:
        own: The data.
        data_dir: Where the data directories are written.
        nj: Number of threads.

    Raises:
        FileNotFoundError: If a folder or list is missing.
        ValueError: If files cannot be used, cannot be divided as asked for, or would be written
            where the sources lie.
        RuntimeError: If another process is working on ``data_dir``.
    """
    data_dir, material, pairs, unpaired = Path(data_dir), None, {}, []
    if own.speech_dir:
        rir_dir = Path(own.rir_dir) if own.rir_dir else None
        material = material_of(Path(own.speech_dir), Path(own.noise_dir), rir_dir)
        files = material.files
    else:
        find = pairs_of_folders if own.mixture_dir else pairs_of_lists
        sources = (own.mixture_dir or own.mixture_scp, own.reference_dir or own.reference_scp)
        pairs, unpaired = find(*map(Path, sources))
        files = [file for pair in pairs.values() for file in map(file_of, pair) if file.exists()]
    _refuse_outputs_on_inputs(own, data_dir)
    lists = [Path(path) for path in (own.valid_list, own.test_list) if path]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in lists if path.is_file()]
    options = {**asdict(own), "snr_range": list(own.snr_range), "lists": texts}
    names = [*SPLITS, *(["train_noise"] if own.mix_at_visit else [])]
    with preparing(data_dir, files, options, names=names) as is_due:
        if not is_due:
            return
        if material:
            material, problems = usable_material(material, nj)
        else:
            pairs, problems = usable_pairs(pairs, nj)
        unnamed = without_unnamed(material.speech if material else pairs, own.speaker_pattern)
        report = data_dir / "bad_files.txt"
        report_problems(unpaired + problems + unnamed, report, own.on_bad_file == "skip", REMEDY)
        if material:
            division = own.splitting.divide(material.speech)
            mixing = Mixing(own.snr_range, own.seed, own.mix_at_visit, own.heldout_utts)
            sets = mix_sets(material, division, mixing, data_dir / "audio")
        else:
            sets = sets_of_pairs(pairs, own.splitting)
        write_sets(sets, data_dir)


def write_sets(sets: dict[str, DataDir], data_dir: Path) -> None:
    """Write data directories and say what they hold; remove recordings for mixing of before."""
    for name in {"train_noise", "train_rooms"} - sets.keys():
        if (data_dir / name / MARKER).exists():
            shutil.rmtree(data_dir / name)
    for name, data in sets.items():
        write_data_dir(data_dir / name, data)
        print(f"{name}: {_described(name, data)}")


def _described(name: str, data: DataDir) -> str:
    """What a data directory holds, in a few words."""
    if name.startswith("train_"):
        return f"{len(data)} recordings, to be mixed with the speech at each visit"
    return f"{len(data)} utterances, {len(set(data.speaker.values()))} speakers"


def _refuse_outputs_on_inputs(own: OwnData, data_dir: Path) -> None:
    inputs = [path for pair in SOURCES for name in pair if (path := getattr(own, name))]
    inputs += [path for path in (own.rir_dir, own.valid_list, own.test_list) if path]
    if own.speech_dir:
        refuse_overlap([data_dir / "audio"], inputs)
    tables = [data_dir / "bad_files.txt", data_dir / RECORD]
    tables += [data_dir / name / table for name in SPLITS for table in TABLES]
    files = [path for path in inputs if Path(path).is_file()]
    refuse_overlap(tables, files)


def decibel_range(text: str) -> tuple[float, float]:
    """Two finite numbers, ``lowest highest``."""
    try:
        lowest, highest = map(float, text.split())
        if not math.isfinite(lowest + highest):
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers, as in '-5 15'") from None
    return lowest, highest


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`prepare_custom`; its options are the fields of :class:`OwnData`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", default="data", help="data directories go here")
    kinds = {"snr_range": decibel_range, "seed": int, "heldout_utts": at_least_one}
    kinds["mix_at_visit"] = true_or_false
    for field in fields(OwnData):
        choices = ("error", "skip") if field.name == "on_bad_file" else None
        kind = kinds.get(field.name, str)
        parser.add_argument(f"--{field.name}", type=kind, default=field.default, choices=choices)
    parser.add_argument("--nj", type=at_least_one, default=cpu_cores(), help="number of threads")
    options = vars(parser.parse_args(arguments))
    data_dir, nj = options.pop("data_dir"), options.pop("nj")
    prepare_custom(OwnData(**options), data_dir, nj)
    print(f"data directories: {data_dir}/{{{','.join(SPLITS)}}}")


if __name__ == "__main__":
    run_command(main)
