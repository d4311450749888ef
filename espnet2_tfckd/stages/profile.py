"""Measure the costs of a model: parameters, multiply-accumulates, real-time factor."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.models.cost import PROFILE, profile_made_of, write_profile


def get_parser() -> argparse.ArgumentParser:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.profile", description=__doc__
    )
    parser.add_argument("--exp_dir", required=True, help="experiment directory with config.yaml")
    parser.add_argument("--inference_model", default="valid.loss.best.pth", help="checkpoint in it")
    parser.add_argument("--fs", type=int, help="sample rate in Hz (default: the model's)")
    parser.add_argument("--num_channels", type=int, default=1, help="channels of the mixture")
    return parser


def main() -> None:
    """Run the measurement from the command line."""
    args = get_parser().parse_args()
    from espnet2_tfckd.models.configuration import model_rate
    from espnet2_tfckd.models.inference import load_separate_speech, model_made_of

    separate_speech = load_separate_speech(args.exp_dir, args.inference_model)
    path = Path(args.exp_dir) / PROFILE
    rate = args.fs or model_rate(vars(separate_speech.enh_train_args)).hz
    made = profile_made_of(model_made_of(args.exp_dir, args.inference_model))
    measured = write_profile(path, made, separate_speech, rate, args.num_channels)
    del measured["made_of"]
    print(json.dumps(measured, indent=1))
    print(f"Profile: {path}")


if __name__ == "__main__":
    run_command(main)
