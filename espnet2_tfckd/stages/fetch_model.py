"""Stage 6 with a published teacher: fetch it into an experiment directory."""

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
    parser.add_argument("--model_tag", required=True, help="id on the hub, or a packed .zip")
    parser.add_argument("--exp_dir", required=True, help="experiment directory to write")
    parser.add_argument("--inference_model", default=CHECKPOINT, help="checkpoint in it")
    return parser


def main() -> None:
    """Run the stage from the command line."""
    args = get_parser().parse_args()
    print(f"model: {fetch_model(args.model_tag, args.exp_dir, args.inference_model)}")


if __name__ == "__main__":
    run_command(main)
