"""Building packs, good and evil, and refusing them."""

from __future__ import annotations

import sys
import warnings
import zipfile

import yaml

from espnet2_tfckd.models import packs
from espnet2_tfckd.stages import fetch_model as fetch_stage

CONFIG = "exp/enh_causal/config.yaml"
CHECKPOINT = "exp/enh_causal/valid.loss.best.pth"


def tree(folder):
    """All files below a folder with their contents, but for the locks of fetching."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".fetch.lock")
    }


def write_pack(path, contents, *members, meta=None):
    """A pack of good contents with more members, and other entries in its meta.yaml."""
    contents = dict(contents)
    if meta:
        described = yaml.safe_load(contents["meta.yaml"])
        for group, entries in meta.items():
            described[group] = {**described[group], **entries}
        contents["meta.yaml"] = yaml.safe_dump(described).encode()
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in [*contents.items(), *members]:
            archive.writestr(name, content)
    return path


def compressed(name, content, method=zipfile.ZIP_DEFLATED):
    info = zipfile.ZipInfo(name)
    info.compress_type = method
    return info, content


def refused(packed, name, tmp_path, fails, monkeypatch, *words):
    """Laying the pack out as an experiment ends in one line and leaves nothing."""
    before = tree(tmp_path)
    arguments = ["--model_tag", str(packed), "--exp_dir", str(tmp_path / "exp" / "enh_evil")]
    monkeypatch.setattr(sys, "argv", ["fetch_model", *arguments])
    line = fails(fetch_stage.main)
    assert tree(tmp_path) == before
    assert not (tmp_path / "exp" / "enh_evil").exists()
    assert str(packed) in line and "/tmp/tmp" not in line
    for word in (*words, *([] if name is None else [packs.shown(name)[:100].rstrip("'.")])):
        assert word in line
    return line
