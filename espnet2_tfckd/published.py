"""Published models: from the Hugging Face hub or a zip file to an experiment directory."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from pathlib import Path

from espnet2_tfckd.checkpoint import load_enhancement_model
from espnet2_tfckd.cli import atomic_write

SOURCE = "source.json"  # in the experiment directory: where the model comes from


def fetch_model(model_tag: str, exp_dir: str | Path, inference_model: str) -> Path:
    """Lay a published ESPnet enhancement model out as if it had been trained here.

    Args:
        model_tag: Id on the hub, ``<user>/<model>``, or a packed model as a local ``.zip``.
        exp_dir: Experiment directory to write: ``config.yaml`` and the checkpoint.
        inference_model: Name that the checkpoint gets.

    Returns:
        ``exp_dir``. Nothing is done where it already holds this model.

    Raises:
        FileNotFoundError: The zip file is not there.
        ValueError: It is no packed enhancement model, or its checkpoint does not fit.
        ConnectionError: The hub cannot be reached or has no such model.
    """
    exp_dir, archive = Path(exp_dir), Path(model_tag)
    is_file = archive.suffix == ".zip"
    if is_file and not archive.is_file():
        raise FileNotFoundError(f"packed model {archive} is not there")
    source = {"model_tag": model_tag}
    if is_file:
        source |= {"bytes": archive.stat().st_size, "modified": archive.stat().st_mtime}
    present = exp_dir / SOURCE
    if present.is_file() and json.loads(present.read_text(encoding="utf-8")) == source:
        return exp_dir
    with tempfile.TemporaryDirectory() as folder:
        files = _unpack(archive, folder) if is_file else _download(model_tag)
        if not {"train_config", "model_file"} <= files.keys():
            raise ValueError(
                f"{model_tag} is no enhancement model of ESPnet: it packs {', '.join(files)}"
            )
        load_enhancement_model(files["train_config"], files["model_file"])  # refuses what is wrong
        with atomic_write(exp_dir / "config.yaml") as config:
            shutil.copyfile(files["train_config"], config)
        with atomic_write(exp_dir / inference_model) as checkpoint:
            shutil.copyfile(files["model_file"], checkpoint)
    with atomic_write(present) as file:
        file.write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    return exp_dir


def _unpack(archive: Path, folder: str) -> dict[str, str]:
    # Not by the model zoo: it serves what it once unpacked under the same name.
    from espnet2.main_funcs.pack_funcs import unpack

    try:
        return unpack(archive, folder, use_cache=False)
    except Exception as error:  # the archive's readers raise many kinds
        raise ValueError(
            f"{archive} cannot be read as a packed ESPnet model ({error}): fetch or pack it again"
        ) from error


def _download(model_tag: str) -> dict[str, str]:
    from espnet_model_zoo.downloader import ModelDownloader

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ModelDownloader().download_and_unpack(model_tag)
    except Exception as error:  # so do the hub's libraries
        raise ConnectionError(
            f"{model_tag} could not be fetched from the hub ({type(error).__name__}: {error}): "
            "check its name and the network, or name a packed model's .zip"
        ) from error
