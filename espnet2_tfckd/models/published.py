"""Models from elsewhere: from the Hugging Face hub, a zip file or another experiment."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.data.freshness import change, file_state, made_of, read_record, write_record
from espnet2_tfckd.models import hub
from espnet2_tfckd.models.checkpoint import load_enhancement_model
from espnet2_tfckd.models.inference import model_files
from espnet2_tfckd.models.packs import PackedModel, unpack

SOURCE = "source.json"  # in the experiment directory: what the model was fetched from
CONFIG = "config.yaml"


def fetch_model(
    model_tag: str, exp_dir: str | Path, inference_model: str, is_experiment: bool = False
) -> Path:
    """Fetch an ESPnet enhancement model from elsewhere into an experiment directory.

    A model on the hub is fetched again when the hub has another revision of it. Others are fetched
    again when the contents of their files have changed.

    Args:
        model_tag: Id on the hub, ``<user>/<model>``; or a packed model as a local ``.zip``.
        exp_dir: Experiment directory to write: ``config.yaml`` and the checkpoint.
        inference_model: Name for the checkpoint.
        is_experiment: Whether ``model_tag`` is another experiment directory instead, which has the
            checkpoint under the same name.

    Returns:
        ``exp_dir``. If it already holds this model, nothing is done.

    Raises:
        FileNotFoundError: If the zip file, or the checkpoint in the directory, is not there.
        ValueError: If it is not a packed enhancement model, its checkpoint does not fit, or
            ``exp_dir`` holds something else.
        ConnectionError: If the hub has no such model, or cannot be reached and the model was not
            fetched before.
    """
    exp_dir = Path(exp_dir)
    local = _local_files(model_tag, inference_model if is_experiment else None)
    exp_dir.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(exp_dir.parent / f".{exp_dir.name}.fetch.lock"):
        before = _read_source(exp_dir)
        _refuse_others_files(exp_dir, before)
        is_whole = {CONFIG, inference_model} <= before.get("written", {}).keys() and all(
            (exp_dir / name).is_file() for name in (CONFIG, inference_model)
        )
        try:
            now = _source(model_tag, local, before)
        except ConnectionError as error:
            options = before.get("options", {})
            if not (is_whole and options.get("model_tag") == model_tag):
                raise
            revision = options["revision"]
            print(f"note: {error}; taking revision {revision}, fetched before", file=sys.stderr)
            return exp_dir
        if not is_whole or change(before, now):
            _fetch(model_tag, now, exp_dir, inference_model)
    return exp_dir


def _local_files(model_tag: str, checkpoint: str | None) -> dict[str, Path]:
    """The files of an experiment, if its checkpoint is named, or a pack; empty if on the hub."""
    if checkpoint:
        return dict(zip(("config", "checkpoint"), model_files(model_tag, checkpoint), strict=True))
    tag = Path(model_tag)
    if tag.suffix.lower() == ".zip":
        if not tag.is_file():
            raise FileNotFoundError(f"packed model {tag} is not there")
        return {"pack": tag}
    if tag.is_file():
        raise ValueError(f"{tag} is not a packed model: only .zip files are")
    return {}


def _source(model_tag: str, local: dict[str, Path], before: dict) -> dict:
    """What identifies the model: the contents of its files, or a revision on the hub."""
    if local:
        return made_of(local, before=before)
    return made_of(options={"model_tag": model_tag, "revision": hub.present_revision(model_tag)})


def _fetch(model_tag: str, source: dict, exp_dir: Path, inference_model: str) -> None:
    """Check a model in a temporary folder, then move it to its place."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        if "checkpoint" in source["files"]:
            folder, packed = Path(model_tag), PackedModel(CONFIG, inference_model)
        elif source["files"]:
            packed = unpack(model_tag, folder)
        else:
            packed = hub.download(model_tag, source["options"]["revision"], folder)
        _check(folder, packed, model_tag)
        contents = {
            CONFIG: (folder / packed.config).read_bytes(),
            inference_model: (folder / packed.checkpoint).read_bytes(),
        }
    # without "written" it says that the model is not complete
    write_record(exp_dir / SOURCE, source)
    with ExitStack() as stack:
        for name, content in contents.items():
            stack.enter_context(atomic_write(exp_dir / name)).write_bytes(content)
    written = {name: file_state(exp_dir / name) for name in contents}
    write_record(exp_dir / SOURCE, {**source, "written": written})


def _check(folder: Path, packed: PackedModel, source: str) -> None:
    try:
        load_enhancement_model(folder / packed.config, folder / packed.checkpoint)
    except ValueError as error:  # it names files of the temporary folder
        raise ValueError(str(error).replace(f"{folder}/", f"{source}: ")) from error


def _read_source(exp_dir: Path) -> dict:
    """The record of the model in a directory; empty if none was fetched."""
    if not (exp_dir / SOURCE).exists():
        return {}
    source = read_record(exp_dir / SOURCE)
    if source is None or not isinstance(source.get("written", {}), dict):
        raise ValueError(
            f"{exp_dir / SOURCE} does not say where the model comes from: to fetch the model "
            f"anew, delete {exp_dir}"
        )
    return source


def _refuse_others_files(exp_dir: Path, source: dict) -> None:
    """Refuse a directory that holds anything other than a fetched model."""
    if not source:
        there = [path.name for pattern in (CONFIG, "*.pth") for path in exp_dir.glob(pattern)]
        if there:
            raise ValueError(
                f"{exp_dir} holds a model that was not fetched ({there[0]}): name another "
                "experiment directory, or move that one away"
            )
    for name, state in source.get("written", {}).items():
        path = exp_dir / name
        if path.is_file() and file_state(path, state)[0] != state[0]:
            raise ValueError(
                f"{path} is not as it was fetched: to fetch the model anew, delete {exp_dir}, or "
                "move it away to keep it"
            )
