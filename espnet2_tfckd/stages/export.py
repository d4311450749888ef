"""Stage 12: export a DPDCRN to ONNX, with an example that needs neither torch nor ESPnet."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.models.configuration import CHECKPOINT, model_rate
from espnet2_tfckd.models.inference import load_separate_speech

_CONFIGURATION = ("encoder", "encoder_conf", "separator", "separator_conf", "decoder")


def export_model(
    exp_dir: str | Path,
    inference_model: str,
    folder: str | Path,
    license: str | None = None,
) -> dict:
    """Export an experiment's model.

    Args:
        exp_dir: Experiment directory with ``config.yaml``.
        inference_model: Name of the checkpoint in it.
        folder: Where the ONNX files go, see :func:`export_onnx`.
        license: Licence of the model, for ``meta.json``.

    Returns:
        What ``meta.json`` says.

    Raises:
        FileNotFoundError: If configuration or checkpoint is not there.
        ValueError: If the model cannot be exported, or ``folder`` holds other files under the names
            that an export needs.
    """
    from espnet2_tfckd.deploy.onnx_export import export_onnx

    loaded = load_separate_speech(exp_dir, inference_model)
    options = vars(loaded.enh_train_args)
    notes = {
        "license": license,
        "training": {name: options[name] for name in _CONFIGURATION if name in options},
    }
    return export_onnx(loaded.enh_model, folder, model_rate(options), notes)


def get_parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.export", description=__doc__
    )
    parser.add_argument("--exp_dir", required=True, help="experiment directory with config.yaml")
    parser.add_argument("--inference_model", default=CHECKPOINT, help="checkpoint in it")
    parser.add_argument("--folder", help="where to write (default: <exp_dir>/onnx)")
    parser.add_argument("--license", help="licence of the model, for meta.json")
    return parser


def main() -> None:
    """Run the stage from the command line."""
    args = get_parser().parse_args()
    folder = args.folder or str(Path(args.exp_dir) / "onnx")
    meta = export_model(args.exp_dir, args.inference_model, folder, args.license)
    for name, model in meta["models"].items():
        difference = model["max_difference"]
        print(f"{name}: {model['file']}, differs from torch by at most {difference:.1e}")
    if not meta["causal"]:
        print("not causal: there is no streaming model (train with separator_conf.causal: true)")
    print(f"ONNX: {folder}")


if __name__ == "__main__":
    run_command(main)
