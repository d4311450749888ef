"""Between stages 4 and 5: score the unprocessed test set and compare with its known values.

This shows a wrong split, pairing, sampling rate or resampler before time is spent on training.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import NamedTuple

from espnet2_tfckd.cli import add_scoring_options, run_command
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.scoring.columns import SCORES
from espnet2_tfckd.scoring.metrics import PROTOCOLS
from espnet2_tfckd.scoring.parallel import System, score_systems

PROTOCOL_OF = {key: name for name, protocol in PROTOCOLS.items() for key in protocol.columns}


class Known(NamedTuple):
    """A mean over the test set that others published, and how far ours may differ."""

    metric: str
    value: float
    tolerance: float


def parse_known(text: str) -> list[Known]:
    """Read known values, ``metric=value:tolerance`` separated by blanks.

    Raises:
        argparse.ArgumentTypeError: If the text has another form, or the metric is not computed.

    Examples:
        >>> parse_known("pesq_wb=1.97:0.02")
        [Known(metric='pesq_wb', value=1.97, tolerance=0.02)]
    """
    known = []
    for word in text.split():
        metric, _, numbers = word.partition("=")
        value, _, tolerance = numbers.partition(":")
        if metric not in PROTOCOL_OF:
            raise argparse.ArgumentTypeError(f"{metric!r} is not among {' '.join(PROTOCOL_OF)}")
        try:
            known.append(Known(metric, float(value), float(tolerance)))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{word!r} is not metric=value:tolerance, as in pesq_wb=1.97:0.02"
            ) from None
    return known


def check_values(
    data_dir: str | Path,
    dataset: str,
    results_dir: str | Path,
    known: list[Known],
    num_jobs: int,
    ref_channel: int = 0,
) -> dict[str, float]:
    """Score the mixtures of a data directory and compare the means with known values.

    The scores are kept where stage 9 looks for the scores of ``noisy``.

    Args:
        data_dir: Formatted data directory of the test set.
        dataset: Its name in the tables.
        results_dir: Directory of stage 9's results.
        known: Values to compare with.
        num_jobs: Number of processes.
        ref_channel: Channel to score of files with several.

    Returns:
        Mean by metric.

    Raises:
        FileNotFoundError: If ``data_dir`` is not a data directory.
        ValueError: If a mean is further from the known value than its tolerance.
    """
    data_dir = Path(data_dir)
    data = read_data_dir(data_dir)
    noisy = System(
        "noisy", data_dir / "wav.scp", Path(results_dir) / "noisy" / f"scoring_{dataset}"
    )
    protocols = list(dict.fromkeys(PROTOCOL_OF[one.metric] for one in known))
    [records] = score_systems([noisy], data.reference, protocols, num_jobs, ref_channel).values()
    means, off = {}, []
    for metric, value, tolerance in known:
        scores = [record["scores"][metric] for record in records]
        means[metric] = statistics.fmean(score for score in scores if score is not None)
        line = f"{SCORES[metric].name} {means[metric]:.3f}, known is {value:g} within {tolerance:g}"
        print(f"unprocessed {dataset} set ({len(scores)} utterances): {line}")
        if abs(means[metric] - value) > tolerance:
            off.append(line)
    if off:
        raise ValueError(
            f"the unprocessed test set {data_dir} does not score what it should: {'; '.join(off)}. "
            "Are split, pairing, sampling rate and resampling right, and is the corpus complete? "
            'If the set is another one by intention, leave the check out: --check_values ""'
        )
    return means


def get_parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.check_values", description=__doc__
    )
    parser.add_argument("--data_dir", required=True, help="formatted data directory of a test set")
    parser.add_argument("--dataset", required=True, help="its name in the tables")
    parser.add_argument("--results", default="exp", help="directory of stage 9's results")
    parser.add_argument(
        "--known", type=parse_known, required=True, help="such as 'pesq_wb=1.97:0.02'"
    )
    add_scoring_options(parser)
    return parser


def main() -> None:
    """Run the check from the command line."""
    args = get_parser().parse_args()
    check_values(args.data_dir, args.dataset, args.results, args.known, args.nj, args.ref_channel)


if __name__ == "__main__":
    run_command(main)
