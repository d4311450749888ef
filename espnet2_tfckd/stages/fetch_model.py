"""Stage 6 with a teacher from elsewhere: fetch it into an experiment directory."""

from __future__ import annotations

import argparse

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.models.configuration import CHECKPOINT
from espnet2_tfckd.models.published import fetch_model


def get_parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.fetch_model", description=__doc__
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model_tag", help="id on the hub, or a packed .zip")
    source.add_argument("--from_exp", help="or another experiment directory")
    parser.add_argument("--exp_dir", required=True, help="experiment directory to write")
    parser.add_argument("--inference_model", default=CHECKPOINT, help="checkpoint in it")
    return parser


def main() -> None:
    """Run the stage from the command line."""
    args = get_parser().parse_args()
    model_tag = args.model_tag or args.from_exp
    fetch_model(model_tag, args.exp_dir, args.inference_model, is_experiment=not args.model_tag)
    print(f"model: {args.exp_dir}, from {model_tag}")


if __name__ == "__main__":
    run_command(main)
