"""Fetching packages as files: offline folders, checksums, retries, unpacking."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from espnet2_tfckd.corpora import fetch
from espnet2_tfckd.corpora.fetch import fetch_packages, unpack
from espnet2_tfckd.corpora.mini import prepare_mini
from espnet2_tfckd.corpora.sources import Package
from espnet2_tfckd.data.freshness import sha256

TONE = Package("tone", "1.0", "CC0", "nobody")


def make_wheel(folder: Path, name="tone", version="1.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sounds/a.wav", "audio")
        archive.writestr("code.py", "pass")
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "Name: tone")
    return path


def test_offline_folder_is_searched_in_depth_and_checksums_recorded(tmp_path):
    wheel = make_wheel(tmp_path / "mirror" / "t")
    assert fetch_packages([TONE], tmp_path / "p", tmp_path / "mirror") == {"tone": wheel}
    record = json.loads((tmp_path / "p" / "packages.json").read_text())
    assert record["tone"]["sha256"] == sha256(wheel)


def test_offline_folder_that_lacks_packages_names_them_all(tmp_path):
    make_wheel(tmp_path)
    wanted = [TONE, Package("a-data", None, "", ""), Package("b-data", None, "", "")]
    with pytest.raises(FileNotFoundError, match="lacks 2 of 3 packages: a-data, b-data"):
        fetch_packages(wanted, tmp_path / "p", tmp_path)


def test_a_file_that_changed_is_refused(tmp_path):
    wheel = make_wheel(tmp_path / "src")
    fetch_packages([TONE], tmp_path / "p", tmp_path / "src")
    wheel.write_bytes(b"other")
    with pytest.raises(ValueError, match="differs from the file of that name used before"):
        fetch_packages([TONE], tmp_path / "p", tmp_path / "src")


def test_checksums_of_packages_that_are_not_wanted_this_time_are_kept(tmp_path):
    other = Package("more-tones", "2.0", "CC0", "nobody")
    make_wheel(tmp_path / "src")
    make_wheel(tmp_path / "src", "more_tones", "2.0")  # as a wheel's name is spelt
    fetch_packages([TONE, other], tmp_path / "p", tmp_path / "src")
    fetch_packages([TONE], tmp_path / "p", tmp_path / "src")
    (tmp_path / "src" / "more_tones-2.0-py3-none-any.whl").write_bytes(b"other")
    with pytest.raises(ValueError, match="more_tones.*differs from the file of that name"):
        fetch_packages([other], tmp_path / "p", tmp_path / "src")


def test_only_matching_files_are_unpacked_and_only_once(tmp_path):
    wheel = make_wheel(tmp_path)
    folder = unpack("tone", wheel, ["*.wav", "*.dist-info/*"], tmp_path / "u")
    assert {p.name for p in folder.rglob("*.*") if p.is_file()} >= {"a.wav"}
    assert not (folder / "code.py").exists()
    before = (folder / "sounds" / "a.wav").stat().st_mtime_ns
    unpack("tone", wheel, ["*.wav", "*.dist-info/*"], tmp_path / "u")
    assert (folder / "sounds" / "a.wav").stat().st_mtime_ns == before
    assert (unpack("tone", wheel, ["*.py"], tmp_path / "u") / "code.py").exists()


def test_packages_that_cannot_be_unpacked(tmp_path):
    wheel = make_wheel(tmp_path)
    with pytest.raises(ValueError, match="no file in it matches"):
        unpack("tone", wheel, ["*.mp3"], tmp_path / "u")
    contents = bytearray(wheel.read_bytes())
    start = contents.index(b"a.wav") + 5
    contents[start : start + 8] = b"\xff" * 8  # of the compressed audio itself
    for broken in (bytes(contents), b"broken"):
        wheel.write_bytes(broken)
        with pytest.raises(ValueError, match="not a readable package"):
            unpack("tone", wheel, ["*.wav"], tmp_path / "u")


def test_what_is_being_fetched_is_not_taken_for_a_package(tmp_path):
    make_wheel(tmp_path / "p" / ".partial" / "tone")
    with pytest.raises(FileNotFoundError, match="lacks 1 of 1"):
        fetch_packages([TONE], tmp_path / "out", tmp_path / "p")
    wheel = make_wheel(tmp_path)
    wheel.write_bytes(b"broken")
    with pytest.raises(ValueError, match="not a readable package"):
        unpack("tone", wheel, ["*.wav"], tmp_path / "u")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_debian_package(tmp_path):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr" / "share").mkdir(parents=True)
    control = "Package: tone\nVersion: 1\nArchitecture: all\nMaintainer: n <n@n>\n"
    (root / "DEBIAN" / "control").write_text(f"{control}Description: tone\n")
    (root / "usr" / "share" / "a.ogg").write_text("audio")
    deb = tmp_path / "tone_1_all.deb"
    build = ["dpkg-deb", "--root-owner-group", "--build", str(root), str(deb)]
    subprocess.run(build, check=True, capture_output=True)
    folder = unpack("tone", deb, ["*/share/*.ogg"], tmp_path / "u")
    assert (folder / "usr/share/a.ogg").read_text() == "audio"
    for broken in (deb.read_bytes()[:-20], b"broken"):
        deb.write_bytes(broken)
        with pytest.raises(ValueError, match="not a readable package"):
            unpack("tone", deb, ["*/share/*.ogg"], tmp_path / "u")


def test_a_failed_download_is_tried_again_and_a_damaged_file_fetched_again(tmp_path, monkeypatch):
    tries = []

    def flaky(command, cwd, **_):
        tries.append(command)
        if len(tries) == 1:
            return subprocess.CompletedProcess(command, 1, "", "connection lost")
        make_wheel(cwd)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", flaky)
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)
    wheel = fetch_packages([TONE], tmp_path)["tone"]
    assert len(tries) == 2
    fetch_packages([TONE], tmp_path)
    assert len(tries) == 2
    content = wheel.read_bytes()
    wheel.write_bytes(content[:-9])
    assert fetch_packages([TONE], tmp_path)["tone"].read_bytes() == content
    assert len(tries) == 3


def test_a_download_that_keeps_failing_shows_the_reason(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "no route to host")
    monkeypatch.setattr(fetch.subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)
    with pytest.raises(RuntimeError, match="(?s)tone cannot be fetched.*no route.*source_dir"):
        fetch_packages([TONE], tmp_path)


def test_without_apt_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "which", lambda _: None)
    with pytest.raises(FileNotFoundError, match="apt-get.*--source_dir.*--corpus custom"):
        prepare_mini(tmp_path / "c", tmp_path / "d")


@pytest.mark.parametrize("known, chosen", [({"old", "new"}, "new"), ({"old"}, "old"), ((), "old")])
def test_a_package_is_fetched_by_the_name_that_this_release_gives_it(
    tmp_path, monkeypatch, known, chosen
):
    def apt(command, cwd=None, **_):
        program, *options, name = command
        status = 0 if name in {"update", *known} else 100
        if options[-1] == "download" and status == 0:
            (Path(cwd) / f"{name}_1.deb").write_text("contents")
        return subprocess.CompletedProcess(command, status, "", f"no package {name}")

    monkeypatch.setattr(fetch.subprocess, "run", apt)
    monkeypatch.setattr(fetch.shutil, "which", lambda name: name)
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)
    package = Package("old", None, "", "", "new")
    if known:
        assert fetch_packages([package], tmp_path)["old"].name == f"{chosen}_1.deb"
    else:
        with pytest.raises(RuntimeError, match="package old cannot be fetched.*\n.*no package old"):
            fetch_packages([package], tmp_path)


def test_a_folder_may_hold_a_package_by_either_name(tmp_path):
    package = Package("old", None, "", "", "new")
    with pytest.raises(FileNotFoundError, match="lacks 1 of 1 packages: new or old"):
        fetch_packages([package], tmp_path / "p", tmp_path)
    (tmp_path / "old_1.deb").write_text("empty")
    assert fetch_packages([package], tmp_path / "p", tmp_path)["old"].name == "old_1.deb"
    (tmp_path / "new_1.deb").write_text("contents")
    assert fetch_packages([package], tmp_path / "p", tmp_path)["old"].name == "new_1.deb"
