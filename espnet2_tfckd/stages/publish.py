"""Stage 13: write what goes to the Hugging Face hub for a scored, packed model, or publish it."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet2.fileio.read_text import read_2columns_text

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.deploy.publish import Publication, upload, write_folder


def listening_pair(data_dir: str | Path, enhanced_dir: str | Path) -> dict[str, Path]:
    """Mixture and estimate of the first utterance, by the names that they get.

    Args:
        data_dir: Data directory of a test set.
        enhanced_dir: Directory of its enhanced audio.

    Raises:
        ValueError: If there is no utterance, or no mixture of it.
    """
    mixtures = read_2columns_text(Path(data_dir) / "wav.scp")
    estimates = read_2columns_text(Path(enhanced_dir) / "spk1.scp")
    utterance = min(estimates, default=None)
    if utterance not in mixtures:
        raise ValueError(
            f"{data_dir} and {enhanced_dir} have no utterance {utterance} in common: run stage 8 "
            "again"
        )
    pair = {"samples/noisy": mixtures[utterance], "samples/enhanced": estimates[utterance]}
    if not all(Path(path).is_file() for path in pair.values()):
        return {}  # in a Kaldi archive
    return {f"{name}{Path(path).suffix}": Path(path) for name, path in pair.items()}


def get_parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.publish", description=__doc__
    )
    parser.add_argument("--repo_id", required=True, help="<user>/<model> on the hub")
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment directory")
    parser.add_argument("--packed", type=Path, required=True, help="the model's zip of stage 11")
    parser.add_argument("--results", type=Path, required=True, help="results.json of stage 9")
    parser.add_argument("--license", default="", help="licence of the model, such as cc-by-4.0")
    parser.add_argument("--corpus", required=True, help="name of the training corpus")
    parser.add_argument("--corpus_license", default="", help="its licence, in words")
    parser.add_argument("--teacher", help="name of the teacher in the results")
    parser.add_argument("--data_dir", help="data directory of a test set, for a listening pair")
    parser.add_argument("--enhanced_dir", help="its enhanced audio")
    parser.add_argument("--folder", type=Path, help="where to write (default: <exp_dir>/hub)")
    parser.add_argument("--upload", action="store_true", help="upload the folder as well")
    return parser


def main() -> None:
    """Run the stage from the command line."""
    args = get_parser().parse_args()
    samples = {}
    if args.data_dir and args.enhanced_dir:
        samples = listening_pair(args.data_dir, args.enhanced_dir)
    publication = Publication(
        args.repo_id,
        args.exp_dir,
        args.packed,
        args.results,
        args.license,
        args.corpus,
        args.corpus_license,
        args.teacher,
        samples,
    )
    folder = write_folder(publication, args.folder or args.exp_dir / "hub")
    print(f"repository: {folder}")
    if args.upload:
        print(f"published: {upload(folder, args.repo_id)}")
    else:
        print("not uploaded: look at it, then upload it with --publish true")


if __name__ == "__main__":
    run_command(main)
