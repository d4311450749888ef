"""Models on the Hugging Face hub: their present revision and their files."""

from __future__ import annotations

import shutil
from pathlib import Path

from espnet2_tfckd.models.packs import (
    MAX_BYTES,
    META,
    PackedModel,
    name_fault,
    read_meta,
    shown,
)

_TIMEOUT = 20  # seconds after which the hub counts as unreachable


def present_revision(tag: str) -> str:
    """Ask the hub for the present commit of a model.

    Args:
        tag: ``<user>/<model>``, or ``<user>/<model>@<revision>``.

    Raises:
        ConnectionError: If the hub cannot be reached or has no such model.
    """
    return _info(tag).sha


def download(tag: str, revision: str, folder: str | Path) -> PackedModel:
    """Download configuration and checkpoint of a model, and nothing else from its repository.

    Args:
        tag: As for :func:`present_revision`.
        revision: Commit to download.
        folder: Folder to write.

    Raises:
        ConnectionError: If the hub cannot be reached or has no such model.
        ValueError: If the repository does not hold an enhancement model, or its ``meta.yaml`` names
            files outside it.
    """
    repository = tag.partition("@")[0]
    names = {file.rfilename: file.size or 0 for file in _info(f"{repository}@{revision}").siblings}
    if META not in names:
        raise ValueError(f"{tag} is not an enhancement model of ESPnet: it has no {META}")
    meta = _fetch(repository, revision, META, names)
    packed = read_meta(meta.read_bytes(), names, tag)
    for name in packed:
        target = Path(folder) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_fetch(repository, revision, name, names), target)
    return packed


def _info(tag: str):
    from huggingface_hub import HfApi

    repository, _, revision = tag.partition("@")
    try:
        return HfApi().model_info(
            repository, revision=revision or None, timeout=_TIMEOUT, files_metadata=True
        )
    except Exception as error:  # the hub's library raises many kinds of errors
        raise _unreachable(tag, error) from error


def _fetch(repository: str, revision: str, name: str, sizes: dict[str, int]) -> Path:
    from huggingface_hub import hf_hub_download

    if fault := name_fault(name):
        raise ValueError(f"{repository}: {shown(name)} {fault}")
    if sizes[name] > MAX_BYTES:
        raise ValueError(f"{repository}: {name} has {sizes[name]} bytes, more than any model")
    try:
        return Path(hf_hub_download(repository, name, revision=revision, library_name="espnet"))
    except Exception as error:  # so does this
        raise _unreachable(repository, error) from error


def _unreachable(tag: str, error: Exception) -> ConnectionError:
    reason = " ".join(str(error).split())
    return ConnectionError(
        f"{tag} could not be fetched from the hub ({type(error).__name__}: {reason}): check its "
        "name and the network, or name a packed model's .zip"
    )
