"""End of stage 9: write report.html, which shows the results and plays utterances."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet2_tfckd.cli import atomic_write, name_and_path, run_command
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.scoring.report import ScoredSet, Trainings, render_report
from espnet2_tfckd.scoring.results import journalled, read_results
from espnet2_tfckd.training.curves import heat_maps, validation_losses

MIXTURE = "noisy"  # its name in the tables


def report(
    test_sets: dict[str, Path],
    models: dict[str, Path],
    results_dir: str | Path,
    ref_channel: int = 0,
) -> Path:
    """Write ``report.html`` from the results of stages 6 to 9.

    Args:
        test_sets: Data directories by the names of the data sets in the tables.
        models: Experiment directories, with the test sets' audio in ``enhanced_<name>``, by the
            names of their systems; the last one picks the utterances to listen to.
        results_dir: Directory of ``results.json``, of the mixture's scores and of the report.
        ref_channel: Channel of files with several.

    Returns:
        Path of the report.

    Raises:
        FileNotFoundError: If the results or a data directory are not there; the message says which.
        ValueError: If results, data or lists of estimates cannot be read.
    """
    rows = read_results(results_dir)
    if not rows:
        raise FileNotFoundError(f"{results_dir} has no results.json: run stage 9 first")
    scored_sets = []
    for name, data_dir in test_sets.items():
        estimates = {
            model: folder / f"enhanced_{name}/spk1.scp" for model, folder in models.items()
        }
        scps = {MIXTURE: data_dir / "wav.scp", **estimates}
        mixture, *systems = journalled(scps, name, results_dir)
        scored_sets.append(ScoredSet(name, read_data_dir(data_dir), mixture, systems))
    path = Path(results_dir) / "report.html"
    with atomic_write(path) as temporary:
        trainings = Trainings(list(models), *validation_losses(models), heat_maps(models))
        html = render_report(rows, scored_sets, trainings, ref_channel)
        temporary.write_text(html, encoding="utf-8")
    return path


def get_parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.report", description=__doc__
    )
    named = {"required": True, "action": "append", "type": name_and_path}
    parser.add_argument(
        "--test_set",
        **named,
        metavar="NAME=DATA_DIR",
        help="data directory of a test set that was scored; repeat for further ones",
    )
    parser.add_argument(
        "--model",
        **named,
        metavar="NAME=EXP_DIR",
        help="experiment directory of a system; repeat for further ones, the most important last",
    )
    parser.add_argument("--results", default="exp", help="directory of results.json")
    parser.add_argument("--ref_channel", type=int, default=0, help="channel of multichannel audio")
    return parser


def main() -> None:
    """Run the stage from the command line."""
    parser = get_parser()
    args = parser.parse_args()
    test_sets, models = dict(args.test_set), dict(args.model)
    if len(test_sets) < len(args.test_set) or len(models) < len(args.model):
        parser.error("two test sets or two models have the same name")
    path = report(test_sets, models, args.results, args.ref_channel)
    print(f"Report: {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_command(main)
