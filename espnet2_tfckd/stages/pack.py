"""Stage 11: pack a trained model into a zip file that ESPnet users can load."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import zipfile
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

from espnet2_tfckd.cli import atomic_write, run_command
from espnet2_tfckd.models.checkpoint import load_enhancement_model
from espnet2_tfckd.models.configuration import CHECKPOINT
from espnet2_tfckd.models.inference import model_files
from espnet2_tfckd.models.packs import META


def pack_model(
    exp_dir: str | Path,
    inference_model: str,
    outfile: str | Path,
    results: str | Path | None = None,
) -> Path:
    """Pack configuration, checkpoint, training curves and scores the way ESPnet does.

    The names in the zip are those of a recipe, ``exp/<experiment>/...``, wherever the experiment
    directory lies. So the zip can be unpacked anywhere. If a checkpoint is a symbolic link, its
    target is packed under the name of the link.

    Args:
        exp_dir: Experiment directory with ``config.yaml``, and ``images/`` if there are any.
        inference_model: Name of the checkpoint in it.
        outfile: Path of the zip file.
        results: Path of ``RESULTS.md``; by default the one beside the experiment directory, if
            there is one.

    Returns:
        Path of the zip file, for ``SeparateSpeech.from_pretrained`` after ``import espnet2_tfckd``.

    Raises:
        FileNotFoundError: If a file is not there; the message names it.
        ValueError: If the checkpoint is damaged or does not fit the configuration, or ``outfile``
            is not a ``.zip``, or is a file that is not a packed model. An earlier pack then stays.
    """
    exp_dir, outfile = Path(exp_dir), Path(outfile)
    config, checkpoint = model_files(exp_dir, inference_model)
    if outfile.suffix != ".zip":
        raise ValueError(f"{outfile} must end in .zip")
    beside = exp_dir.resolve().parent / "RESULTS.md"
    if results is None and beside.is_file():
        results = beside
    if results is not None and not Path(results).is_file():
        raise FileNotFoundError(f"{results} is not there: score the model first")
    _refuse_others_file(outfile)
    load_enhancement_model(config, checkpoint)  # refuses what does not fit
    from espnet2.main_funcs.pack_funcs import pack

    # ESPnet stores paths relative to the working directory, and absolute ones outside of it, which
    # cannot be unpacked elsewhere.
    with tempfile.TemporaryDirectory() as recipe, atomic_write(outfile.resolve()) as archive:
        relative = Path("exp") / exp_dir.resolve().name
        packed = Path(recipe) / relative
        packed.mkdir(parents=True)
        shutil.copyfile(config, packed / config.name)
        shutil.copyfile(checkpoint, packed / checkpoint.name)
        options = []
        if (exp_dir / "images").is_dir():
            shutil.copytree(exp_dir / "images", packed / "images")
            options.append(relative / "images")
        if results is not None:
            shutil.copyfile(results, packed.parent / "RESULTS.md")
            options.append(relative.parent / "RESULTS.md")
        with chdir(recipe), redirect_stdout(StringIO()):
            pack(
                files={"model_file": relative / checkpoint.name},
                yaml_files={"train_config": relative / config.name},
                option=options,
                outpath=archive,
            )
    return outfile


def _refuse_others_file(outfile: Path) -> None:
    """Refuse to replace anything other than an earlier packed model."""
    if outfile.is_dir():
        raise ValueError(f"{outfile} is a folder: name a file")
    if outfile.exists():
        try:
            with zipfile.ZipFile(outfile) as archive:
                is_pack = META in archive.namelist()
        except (zipfile.BadZipFile, OSError):
            is_pack = False
        if not is_pack:
            raise ValueError(
                f"{outfile} is there and is not a packed model: name another --outfile, or move it "
                "away"
            )


def get_parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.pack", description=__doc__
    )
    parser.add_argument("--exp_dir", required=True, help="experiment directory with config.yaml")
    parser.add_argument("--inference_model", default=CHECKPOINT, help="checkpoint in it")
    parser.add_argument("--outfile", required=True, help="zip file to write")
    parser.add_argument("--results", help="RESULTS.md to put in (default: the one beside exp_dir)")
    return parser


def main() -> None:
    """Run the stage from the command line."""
    args = get_parser().parse_args()
    outfile = pack_model(args.exp_dir, args.inference_model, args.outfile, args.results)
    print(f"Packed model: {outfile}")


if __name__ == "__main__":
    run_command(main)
