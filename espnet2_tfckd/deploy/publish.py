"""Publishing a model on the Hugging Face hub, in the form that ESPnet reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from espnet2_tfckd.cli import read_json, write_json
from espnet2_tfckd.data.freshness import sha256
from espnet2_tfckd.data.paths import refuse_overlap
from espnet2_tfckd.deploy.model_card import model_card
from espnet2_tfckd.models.packs import unpack

WRITTEN = ".written.json"  # in the folder, not on the hub: digests of what was written


@dataclass(frozen=True)
class Publication:
    """The parts of a repository on the hub.

    Attributes:
        repo_id: ``<user>/<model>``.
        exp_dir: Experiment directory; its folder ``onnx``, if there is one, is published too.
        packed: The model as stage 11 packs it.
        results: ``results.json`` of stage 9.
        license: Identifier of the model's licence, such as ``cc-by-4.0``.
        corpus: Name of the training corpus.
        corpus_license: Its licence, in words.
        teacher: Name of the teacher in the results, if there was one.
        samples: Audio files to listen to, by the names that they get in the repository.
    """

    repo_id: str
    exp_dir: Path
    packed: Path
    results: Path
    license: str
    corpus: str
    corpus_license: str
    teacher: str | None
    samples: dict[str, Path]

    @property
    def system(self) -> str:
        """The model's name in the results."""
        return self.exp_dir.name.removeprefix("enh_")


def write_folder(publication: Publication, folder: str | Path) -> Path:
    """Write everything that will be published.

    Args:
        publication: What is published.
        folder: Folder to write. What was written to it earlier is replaced.

    Returns:
        ``folder``: the unpacked model with ``meta.yaml``, card, samples and ONNX files.

    Raises:
        FileNotFoundError: If the packed model, the results or a sample is not there.
        ValueError: If the model has no scores, no licence is named, the packed model is damaged, or
            ``folder`` holds anything that this function did not write.
    """
    folder = Path(folder)
    if not publication.license or not publication.corpus_license:
        raise ValueError(
            "a model is not published without a licence of its own and that of its corpus: name "
            "them with --license and --corpus_license"
        )
    if not publication.packed.is_file():
        raise FileNotFoundError(f"{publication.packed} is not there: run stage 11 first")
    rows = _scores(publication)
    _refuse_inputs(publication, folder)
    _refuse_others_files(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".hub.", dir=folder.parent) as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        unpack(publication.packed, new)
        _add_files(publication, rows, new)
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    return folder


def _add_files(publication: Publication, rows: list[dict], folder: Path) -> None:
    """Add card, samples and ONNX files to the unpacked model, and a record of all files."""
    onnx = publication.exp_dir / "onnx"
    if onnx.is_dir():
        shutil.copytree(onnx, folder / "onnx")
    for name, source in publication.samples.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    card = model_card(
        publication.repo_id,
        publication.system,
        rows,
        publication.license,
        publication.corpus,
        publication.corpus_license,
        publication.teacher,
        (publication.exp_dir / "config.yaml").read_text(encoding="utf-8"),
        list(publication.samples),
        onnx.is_dir(),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    written = {str(path.relative_to(folder)): sha256(path) for path in _files(folder)}
    write_json(folder / WRITTEN, written)


def _refuse_inputs(publication: Publication, folder: Path) -> None:
    """Refuse a folder that contains, or lies in, what goes into it."""
    exp_dir = publication.exp_dir
    inputs = [exp_dir / name for name in ("config.yaml", "onnx", "images")]
    inputs += [publication.packed, publication.results, *publication.samples.values()]
    refuse_overlap([folder], inputs)


def _refuse_others_files(folder: Path) -> None:
    """Refuse to replace what was not written here, or was changed since."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: name another --folder")
    remedy = "name another --folder, or move it away"
    written = read_json(folder / WRITTEN, default={}, remedy=remedy)
    for path in _files(folder):
        name = str(path.relative_to(folder))
        if not isinstance(written, dict) or written.get(name) != sha256(path):
            raise ValueError(f"{path} was not written here, or was changed since: {remedy}")


def _files(folder: Path) -> list[Path]:
    """All files in a folder except the record and what the hub's library keeps there."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or not path.is_dir())
        and path != folder / WRITTEN
        and path.relative_to(folder).parts[0] != ".cache"
    ]


def _scores(publication: Publication) -> list[dict]:
    if not publication.results.is_file():
        raise FileNotFoundError(f"{publication.results} is not there: run stages 8 and 9 first")
    rows = read_json(publication.results)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"system", "dataset"} <= row.keys() for row in rows
    ):
        raise ValueError(f"{publication.results} is not as stage 9 writes it: run stage 9 again")
    if not any(row["system"] == publication.system for row in rows):
        raise ValueError(
            f"{publication.results} has no scores of {publication.system}: a model is not "
            "published without; run stages 8 and 9 first"
        )
    return rows


def upload(folder: str | Path, repo_id: str) -> str:
    """Upload a folder to the hub. Files that are already there are not sent again.

    The token comes from the environment (``HF_TOKEN``) or from ``hf auth login``.

    Returns:
        The repository's address.

    Raises:
        ConnectionError: If the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message="Publish the model",
            ignore_patterns=WRITTEN,
        )
    except Exception as error:  # the hub's library raises many kinds
        raise ConnectionError(
            f"{repo_id} could not be published ({type(error).__name__}: {error}): log in with "
            "'hf auth login' or set HF_TOKEN, and run the same command again to go on"
        ) from error
    return str(address)
