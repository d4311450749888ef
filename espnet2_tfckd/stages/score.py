"""Stage 9: score enhanced speech and write RESULTS.md and results.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet2_tfckd.cli import name_and_path, parse_systems, run_command, systems_parser
from espnet2_tfckd.compatibility import INSTALL_CI_SDR
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.scoring.differences import Comparison
from espnet2_tfckd.scoring.metrics import PROTOCOLS
from espnet2_tfckd.scoring.parallel import score_systems
from espnet2_tfckd.scoring.results import (
    journalled,
    print_results,
    read_results,
    update_results,
)
from espnet2_tfckd.scoring.tables import group_utterances


def score(
    data_dir: str | Path,
    dataset: str,
    systems: dict[str, Path],
    results_dir: str | Path,
    protocols: list[str],
    num_jobs: int,
    ref_channel: int = 0,
    comparison: Comparison | None = None,
) -> list[dict]:
    """Score systems on a data set and add them to ``RESULTS.md`` and ``results.json``.

    Args:
        data_dir: Data directory with the references in ``spk1.scp``, and optionally
            ``metadata.csv`` for improvements by SNR and noise.
        dataset: Name of the data set in the tables.
        systems: Estimates (scp) by the name of their system; the mixture is the one whose scp is
            the data directory's ``wav.scp``.
        results_dir: Directory of ``RESULTS.md`` and ``results.json``, which keep the results of
            other systems and data sets.
        protocols: Keys of :data:`espnet2_tfckd.scoring.metrics.PROTOCOLS`.
        num_jobs: Number of processes.
        ref_channel: Channel to score of files with several.
        comparison: Two of the systems whose difference is wanted too.

    Returns:
        The objects of ``results.json``.

    Raises:
        FileNotFoundError: If a file that is needed is not there.
        ValueError: If estimates or tables do not fit the data set; the message names them.
    """
    data = read_data_dir(data_dir)
    group_utterances(data.metadata)  # refuse unusable metadata before anything is scored
    read_results(results_dir)
    records = score_systems(
        journalled(systems, dataset, results_dir),
        data.reference,
        protocols,
        num_jobs,
        ref_channel,
    )
    return update_results(data_dir, dataset, systems, records, results_dir, comparison)


def get_parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = systems_parser("score", __doc__)
    parser.add_argument(
        "--scoring_protocol",
        default=" ".join(PROTOCOLS),
        help="metrics to compute, separated by spaces (default: %(default)s)",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("NAME", "OTHER"),
        help="also give the difference of two systems, paired by utterance: NAME minus OTHER",
    )
    parser.add_argument(
        "--over_seeds",
        type=name_and_path,
        metavar="ARM=DIR",
        help="with --compare: also say what an experiment whose results are in DIR found for ARM",
    )
    return parser


def main() -> None:
    """Run the stage from the command line."""
    parser = get_parser()
    args = parse_systems(parser)
    protocols = args.scoring_protocol.split()
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        parser.error(f"--scoring_protocol: {', '.join(unknown)} is not among {' '.join(PROTOCOLS)}")
    protocols, left_out = (
        [name for name in protocols if PROTOCOLS[name].is_installed is installed]
        for installed in (True, False)
    )
    for name in left_out:
        package = PROTOCOLS[name].package
        remedy = INSTALL_CI_SDR if package == "ci_sdr" else f"pip install {package}"
        print(f"{name} is left out, as {package} is not installed: {remedy}")
    if not protocols:
        parser.error("--scoring_protocol must name a metric that can be computed")
    comparison = None
    if args.compare:
        if unknown := [name for name in args.compare if name not in args.system]:
            parser.error(f"--compare: {' and '.join(unknown)} is not given as --system")
        arm, experiment = args.over_seeds or ("", None)
        comparison = Comparison(*args.compare, experiment, arm)
        comparison.over_seeds()  # refuse what cannot be read before anything is scored
    elif args.over_seeds:
        parser.error("--over_seeds goes with --compare")
    rows = score(
        args.data_dir,
        args.dataset,
        args.system,
        args.results,
        protocols,
        args.nj,
        args.ref_channel,
        comparison,
    )
    print_results(rows, args.dataset, args.results)


if __name__ == "__main__":
    run_command(main)
