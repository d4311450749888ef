"""Publishing a model on the Hugging Face hub, in the form that ESPnet reads."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.deploy.model_card import model_card


@dataclass(frozen=True)
class Publication:
    """What a repository on the hub is made of.

    Attributes:
        repo_id: ``<user>/<model>``.
        exp_dir: Experiment directory; its folder ``onnx``, if there is one, goes along.
        packed: The model as stage 11 packs it.
        results: ``results.json`` of stage 9.
        license: Identifier of the model's licence, such as ``cc-by-4.0``.
        corpus: Name of the training corpus.
        corpus_license: Its licence, in words.
        teacher: Name of the teacher in the results, if there was one.
        samples: Audio files to listen to, by the names that they get.
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
    """Write everything that is to be published.

    Args:
        publication: What is published.
        folder: Where to; emptied first.

    Returns:
        ``folder``: the unpacked model with ``meta.yaml``, card, samples and ONNX files.

    Raises:
        FileNotFoundError: The packed model, the results or a sample is not there.
        ValueError: The model has no scores, or no licence is named.
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
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(publication.packed) as archive:
        archive.extractall(folder)
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
    with atomic_write(folder / "README.md") as readme:
        readme.write_text(card, encoding="utf-8")
    return folder


def _scores(publication: Publication) -> list[dict]:
    if not publication.results.is_file():
        raise FileNotFoundError(f"{publication.results} is not there: run stages 8 and 9 first")
    rows = json.loads(publication.results.read_text(encoding="utf-8"))
    if not any(row["system"] == publication.system for row in rows):
        raise ValueError(
            f"{publication.results} has no scores of {publication.system}: a model is not "
            "published without; run stages 8 and 9 first"
        )
    return rows


def upload(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Upload a folder to the hub. What is there already is not sent again.

    The token is that of the environment (``HF_TOKEN``) or of ``hf auth login``.

    Returns:
        The repository's address.

    Raises:
        ConnectionError: The hub refused or could not be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Publish the model")
    except Exception as error:  # the hub's library raises many kinds
        raise ConnectionError(
            f"{repo_id} could not be published ({type(error).__name__}: {error}): log in with "
            "'hf auth login' or set HF_TOKEN, and run the same command again to go on"
        ) from error
    return str(address)
