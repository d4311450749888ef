"""Published models: from the Hugging Face hub or a zip file to an experiment directory."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock

from espnet2_tfckd.checkpoint import load_enhancement_model
from espnet2_tfckd.cli import atomic_write, read_json
from espnet2_tfckd.data.freshness import sha256
from espnet2_tfckd.models import hub
from espnet2_tfckd.models.packs import PackedModel, unpack

SOURCE = "source.json"  # in the experiment directory: where the model comes from
CONFIG = "config.yaml"


def fetch_model(model_tag: str, exp_dir: str | Path, inference_model: str) -> Path:
    """Lay a published ESPnet enhancement model out as if it had been trained here.

    A model on the hub is fetched again when the hub has another revision of it, a packed one when
    the contents of the file have changed.

    Args:
        model_tag: Id on the hub, ``<user>/<model>``, or a packed model as a local ``.zip``.
        exp_dir: Experiment directory to write: ``config.yaml`` and the checkpoint.
        inference_model: Name that the checkpoint gets.

    Returns:
        ``exp_dir``. Nothing is done where it already holds this model.

    Raises:
        FileNotFoundError: If the zip file is not there.
        ValueError: If it is no packed enhancement model, its checkpoint does not fit, or
            ``exp_dir`` holds something else.
        ConnectionError: If the hub has no such model, or cannot be reached and the model was not
            fetched before.
    """
    exp_dir, archive = Path(exp_dir), Path(model_tag)
    is_file = archive.suffix.lower() == ".zip"
    if is_file and not archive.is_file():
        raise FileNotFoundError(f"packed model {archive} is not there")
    if not is_file and archive.is_file():
        raise ValueError(f"{archive} is no packed model: only .zip files are")
    exp_dir.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(exp_dir.parent / f".{exp_dir.name}.fetch.lock"):
        before = _read_source(exp_dir)
        _refuse_others_files(exp_dir, before)
        is_whole = {CONFIG, inference_model} <= before.get("files", {}).keys() and all(
            (exp_dir / name).is_file() for name in (CONFIG, inference_model)
        )
        if is_file:
            source = {"model_tag": model_tag, "sha256": sha256(archive)}
        else:
            try:
                source = {"model_tag": model_tag, "revision": hub.present_revision(model_tag)}
            except ConnectionError as error:
                if not (is_whole and before["model_tag"] == model_tag):
                    raise
                print(
                    f"note: {error}; taking revision {before['revision']}, fetched before",
                    file=sys.stderr,
                )
                return exp_dir
        if not (is_whole and {**before, "files": None} == {**source, "files": None}):
            _fetch(source, exp_dir, inference_model)
    return exp_dir


def _fetch(source: dict, exp_dir: Path, inference_model: str) -> None:
    """Check a model in a temporary folder, then put it where it is to be."""
    tag = source["model_tag"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        if "revision" in source:
            packed = hub.download(tag, source["revision"], folder)
        else:
            packed = unpack(tag, folder)
        _check(folder, packed, tag)
        contents = {
            CONFIG: (folder / packed.config).read_bytes(),
            inference_model: (folder / packed.checkpoint).read_bytes(),
        }
    # without "files" it says that the model is not complete
    _write_source(exp_dir, source)
    with ExitStack() as stack:
        for name, content in contents.items():
            stack.enter_context(atomic_write(exp_dir / name)).write_bytes(content)
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    _write_source(exp_dir, {**source, "files": files})


def _check(folder: Path, packed: PackedModel, source: str) -> None:
    try:
        load_enhancement_model(folder / packed.config, folder / packed.checkpoint)
    except ValueError as error:  # it names files of the temporary folder
        raise ValueError(str(error).replace(f"{folder}/", f"{source}: ")) from error


def _write_source(exp_dir: Path, source: dict) -> None:
    with atomic_write(exp_dir / SOURCE) as file:
        file.write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def _read_source(exp_dir: Path) -> dict:
    remedy = f"to fetch the model anew, delete {exp_dir}"
    source = read_json(exp_dir / SOURCE, default={}, remedy=remedy)
    files = source.get("files", {}) if isinstance(source, dict) else None
    if not isinstance(files, dict) or (source and "model_tag" not in source):
        raise ValueError(f"{exp_dir / SOURCE} does not say where the model comes from: {remedy}")
    return source


def _refuse_others_files(exp_dir: Path, source: dict) -> None:
    """Models are fetched into a folder of their own, and nobody's work there is overwritten."""
    if not source:
        there = [path.name for pattern in (CONFIG, "*.pth") for path in exp_dir.glob(pattern)]
        if there:
            raise ValueError(
                f"{exp_dir} holds a model that was not fetched ({there[0]}): name another "
                "experiment directory, or move that one away"
            )
    for name, fetched in source.get("files", {}).items():
        if (exp_dir / name).is_file() and sha256(exp_dir / name) != fetched:
            raise ValueError(
                f"{exp_dir / name} is not as it was fetched: to fetch the model anew, delete "
                f"{exp_dir}, or move it away to keep it"
            )
