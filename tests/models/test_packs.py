"""Packs of strangers: what could write elsewhere, run code or fill the disk is refused unopened."""

from __future__ import annotations

import stat
import struct
import sys
import zipfile

import pytest
import torch

from espnet2_tfckd.deploy import command, enhancer
from espnet2_tfckd.models import packs
from espnet2_tfckd.models.published import fetch_model
from espnet2_tfckd.stages import fetch_model as fetch_stage
from espnet2_tfckd.stages import publish as publish_stage
from tests.models.building import CHECKPOINT, CONFIG, compressed, refused, tree, write_pack


def link(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


def device(name):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFCHR | 0o666) << 16
    return info, b""


NAMES = [
    "../evil.yaml",
    "exp/../../evil.yaml",
    "/tmp/evil.yaml",
    "~/evil.yaml",
    "..\\evil.yaml",
    "C:\\evil.yaml",
    "C:evil.yaml",
    "exp//evil.yaml",
    "./evil.yaml",
    "exp/./evil.yaml",
    "exp/evil.yaml ",
    "exp /evil.yaml",
    "exp./evil.yaml",
    "evil\n.yaml",
    "evil\x1b[2J.yaml",
    "evil",
    ".bashrc",
    "exp/evil.py",
    "exp/evil.so",
    "exp/evil.pkl",
    "a" * 250 + ".yaml",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_members_with_such_names_are_refused(name, contents, tmp_path, fails, monkeypatch):
    packed = write_pack(tmp_path / "evil.zip", contents, (name, b"a: 1"))
    refused(packed, name, tmp_path, fails, monkeypatch)


@pytest.mark.parametrize("group", ["files", "yaml_files"])
@pytest.mark.parametrize("name", [*NAMES, "", ".", "..", None, 3, ["a"], {"a": "b"}], ids=ascii)
def test_names_in_meta_are_refused_too(name, group, contents, tmp_path, fails, monkeypatch):
    members = [(name, b"a: 1")] if isinstance(name, str) and len(name) > 2 else []
    packed = write_pack(tmp_path / "evil.zip", contents, *members, meta={group: {"zz": name}})
    refused(packed, name, tmp_path, fails, monkeypatch)


MEMBERS = {
    "link": (lambda: [link("exp/link.yaml", "/etc/passwd")], "link.yaml", "link or a device"),
    "link as folder": (lambda: [link("exp/link/", "/etc")], "exp/link/", "link or a device"),
    "device": (lambda: [device("exp/dev.txt")], "dev.txt", "link or a device"),
    "twice": (lambda: [(CONFIG, b"a: 1")], CONFIG, "is there twice"),
    "upper case": (lambda: [(CONFIG.upper(), b"a: 1")], CONFIG.upper(), "is there twice"),
    "composed": (
        lambda: [("exp/\u00e9.md", b"a"), ("exp/e\u0301.md", b"b")],
        "e\\u0301.md",
        "is there twice",
    ),
    "file and folder": (lambda: [("exp/a.md", b""), ("exp/a.md/b.md", b"")], "exp/a.md", "folder"),
    "file and empty folder": (
        lambda: [("exp/a.md", b""), ("exp/A.md/", b"")],
        "exp/a.md",
        "folder",
    ),
    "bomb": (
        lambda: [compressed("exp/bomb.txt", bytes(2**25))],
        "bomb.txt",
        "times its size",
    ),
    "bzip2": (
        lambda: [compressed("exp/a.txt", b"a", zipfile.ZIP_BZIP2)],
        "a.txt",
        "compressed in a way",
    ),
    "many": (lambda: [(f"exp/{n}.md", b"") for n in range(1001)], None, "files, more than any"),
}


@pytest.mark.parametrize("kind", MEMBERS)
def test_such_members_are_refused(kind, contents, tmp_path, fails, monkeypatch):
    members, name, words = MEMBERS[kind]
    packed = write_pack(tmp_path / "evil.zip", contents, *members())
    line = refused(packed, None, tmp_path, fails, monkeypatch, words)
    assert name is None or name in line


def test_encrypted_members_are_refused(contents, tmp_path, fails, monkeypatch):
    packed = write_pack(tmp_path / "evil.zip", contents)
    data = bytearray(packed.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 8] |= 1
    packed.write_bytes(data)
    refused(packed, None, tmp_path, fails, monkeypatch, "is encrypted")


def test_nul_in_a_name_is_seen(contents, tmp_path, fails, monkeypatch):
    packed = write_pack(tmp_path / "evil.zip", contents, ("exp/a.mdXevil.sh", b""))
    packed.write_bytes(packed.read_bytes().replace(b"a.mdXevil.sh", b"a.md\0evil.sh"))
    refused(packed, None, tmp_path, fails, monkeypatch, "a.md\\x00evil.sh", "has characters")


def test_a_pack_that_unpacks_to_more_than_allowed_is_refused(
    contents, tmp_path, fails, monkeypatch
):
    monkeypatch.setattr(packs, "MAX_BYTES", 1000)
    packed = write_pack(tmp_path / "evil.zip", contents)
    refused(packed, None, tmp_path, fails, monkeypatch, "unpacks to")


@pytest.mark.parametrize("change", [-1, 1000])
def test_a_misstated_size_is_noticed(change, contents, tmp_path, fails, monkeypatch):
    """The size in the archive's directory is another one than that of the member."""
    packed = write_pack(tmp_path / "evil.zip", contents)
    data = bytearray(packed.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    (size,) = struct.unpack_from("<I", data, entry + 24)
    struct.pack_into("<I", data, entry + 24, size + change)
    packed.write_bytes(data)
    refused(packed, None, tmp_path, fails, monkeypatch, "cannot be read as a packed ESPnet model")


@pytest.mark.parametrize("offset", [0, 4, 6, 8, 10, 12, 20, 24, 28, 30, 32, 42, 46, 47])
@pytest.mark.parametrize("byte", [0x00, 0x7F, 0xFF])
def test_damage_to_the_directory_ends_in_one_line(offset, byte, contents, tmp_path):
    """Any field of the last entry: version, flags, method, sizes, lengths, attributes, name."""
    packed = write_pack(tmp_path / "bad.zip", contents, ("exp/\u00e9.md", b"a"))
    data = bytearray(packed.read_bytes())
    data[data.rindex(b"PK\x01\x02") + offset] ^= byte or 1
    packed.write_bytes(data)
    try:
        packs.unpack(packed, tmp_path / "model")
    except ValueError as error:
        assert str(error).startswith(str(packed))
        assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("end", [0, 500, -100, -1])
def test_a_download_that_was_cut_off_is_said_to_be(end, contents, tmp_path, fails, monkeypatch):
    """The checkpoint, last in it, is a zip file too."""
    names = sorted(contents, key=lambda name: name == CHECKPOINT)
    packed = write_pack(tmp_path / "cut.zip", {name: contents[name] for name in names})
    packed.write_bytes(packed.read_bytes()[:end])
    refused(packed, None, tmp_path, fails, monkeypatch, "cannot be read as a packed ESPnet model")


def test_damage_names_the_member(contents, tmp_path, fails, monkeypatch):
    packed = write_pack(tmp_path / "bad.zip", contents)
    data = bytearray(packed.read_bytes())
    data[data.index(contents[CHECKPOINT]) + 5000] ^= 255
    packed.write_bytes(data)
    refused(packed, CHECKPOINT, tmp_path, fails, monkeypatch, "is damaged")


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        (b"", "no entry yaml_files"),
        (b"[]", "no entry yaml_files"),
        (b"files: {}", "no entry yaml_files"),
        (b"files: {}\nyaml_files: {}", "is not an enhancement model"),
        (b"files: {asr_model_file: exp/a.pth}\nyaml_files: {}", "does not hold"),
        (b"files: {model_file: exp/none.pth}\nyaml_files: {}", "'exp/none.pth'"),
        (None, "holds no meta.yaml"),
    ],
    ids=str,
)
def test_packs_of_other_things_are_refused(meta, words, contents, tmp_path, fails, monkeypatch):
    others = {name: content for name, content in contents.items() if name != "meta.yaml"}
    others |= {"meta.yaml": meta} if meta is not None else {}
    packed = write_pack(tmp_path / "other.zip", others)
    refused(packed, None, tmp_path, fails, monkeypatch, words)


def test_other_archives_are_refused(tmp_path, fails, monkeypatch):
    (tmp_path / "model.tar.gz").write_bytes(b"any")
    refused(tmp_path / "model.tar.gz", None, tmp_path, fails, monkeypatch, "only .zip")


@pytest.fixture
def evil_pack(contents, tmp_path):
    """A pack that ESPnet's own function would write to a file beside its folder."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "precious.yaml").write_text("mine")
    name = str(inside / "precious.yaml")
    return write_pack(
        tmp_path / "evil.zip", contents, (name, b"a: 1"), meta={"yaml_files": {"zz": name}}
    )


WAYS = {
    "info": lambda tmp, pack: (command.main, ["info", pack]),
    "enhance": lambda tmp, pack: (
        command.main,
        ["enhance", tmp / "a.wav", "-o", tmp / "b.wav", "--model", pack],
    ),
    "parity": lambda tmp, pack: (command.main, ["parity", pack, tmp / "a.wav"]),
    "demo": lambda tmp, pack: (command.main, ["demo", "--model", pack]),
    "fetch_model": lambda tmp, pack: (
        fetch_stage.main,
        ["--model_tag", pack, "--exp_dir", tmp / "exp" / "enh"],
    ),
    "publish": lambda tmp, pack: (
        publish_stage.main,
        ["--repo_id", "a/b", "--exp_dir", tmp, "--packed", pack, "--corpus", "any"]
        + ["--results", tmp / "results.json", "--license", "mit", "--corpus_license", "mit"]
        + ["--folder", tmp / "hub"],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_goes_through_the_gate(way, evil_pack, tmp_path, fails, monkeypatch):
    import soundfile

    soundfile.write(tmp_path / "a.wav", torch.zeros(20_000).numpy(), 16000)
    (tmp_path / "results.json").write_text(f'[{{"system": "{tmp_path.name}", "dataset": "t"}}]')
    (tmp_path / "config.yaml").write_text("{}")
    monkeypatch.setattr(enhancer, "CACHE", tmp_path / "cache")
    monkeypatch.setattr("espnet2_tfckd.deploy.demo.check_gradio", lambda: None)
    before = tree(tmp_path)
    main, arguments = WAYS[way](tmp_path, evil_pack)
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    line = fails(main)
    assert "evil.zip" in line and "precious.yaml" in line and "is not a relative name" in line
    assert tree(tmp_path) == before


def test_a_good_pack_is_unpacked_as_it_was_packed(good_pack, contents, tmp_path):
    packed = packs.unpack(good_pack, tmp_path / "model")
    assert packed == (CONFIG, CHECKPOINT)
    assert {
        str(path.relative_to(tmp_path / "model")): path.read_bytes()
        for path in (tmp_path / "model").rglob("*")
        if path.is_file()
    } == contents
    with pytest.raises(FileExistsError):
        packs.unpack(good_pack, tmp_path / "model")
    assert (tmp_path / "model" / CONFIG).is_file()


def test_folders_as_other_programs_pack_them_are_accepted(contents, tmp_path):
    packed = write_pack(tmp_path / "good.ZIP", contents, ("exp/", b""), ("exp/enh_causal/", b""))
    assert (fetch_model(str(packed), tmp_path / "enh", "m.pth") / "m.pth").is_file()
