"""What a user has is kept: outputs that touch inputs are refused, only own folders are emptied."""

from __future__ import annotations

import pytest

from espnet2_tfckd.data.paths import MARKER, make_own_folder, refuse_overlap


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """``in/deep/a.wav``, links to it and to its folder; the working directory."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.wav").write_text("sound")
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "soft.wav").symlink_to("in/deep/a.wav")
    (tmp_path / "hard.wav").hardlink_to(tmp_path / "in/deep/a.wav")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("output", "source", "relation"),
    [
        ("in", "in", "is the input"),
        ("./in/../in/", "in", "is the input"),
        ("link", "in", "is the input"),
        ("in", "link", "is the input"),
        ("in/new", "in", "lies in the input"),
        ("link/deep/new/newer", "in", "lies in the input"),
        ("in/deep/b.wav", "in", "lies in the input"),
        (".", "in", "holds the input"),
        ("in", "in/deep/a.wav", "holds the input"),
        ("link/deep", "in/deep/a.wav", "holds the input"),
        ("soft.wav", "in/deep/a.wav", "is the input"),
        ("hard.wav", "in/deep/a.wav", "is the input"),
        ("in/deep/a.wav", "hard.wav", "is the input"),
    ],
)
def test_outputs_that_touch_an_input_are_refused(output, source, relation, tree):
    with pytest.raises(ValueError, match=relation):
        refuse_overlap([output], ["nowhere", source])
    with pytest.raises(ValueError, match=relation):
        refuse_overlap(["elsewhere", tree / output], [tree / source])


@pytest.mark.parametrize(
    ("output", "source"),
    [("out", "in"), ("in2", "in"), ("in/deep/b.wav", "in/deep/a.wav"), ("in", "nowhere/a.wav")],
)
def test_others_are_not(output, source, tree):
    refuse_overlap([output], [source])


def test_an_own_folder_is_emptied_and_no_other(tmp_path):
    folder = make_own_folder(tmp_path / "a" / "audio")
    (folder / "deep").mkdir()
    (folder / "deep" / "x.wav").touch()
    (folder / "y.wav").touch()
    make_own_folder(folder)
    assert [path.name for path in folder.iterdir()] == [MARKER]
    other = tmp_path / "theirs"
    other.mkdir()
    make_own_folder(other)  # an empty one may be taken
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.wav").write_text("mine")
    with pytest.raises(ValueError, match="full holds files that this command did not write"):
        make_own_folder(tmp_path / "full")
    assert (tmp_path / "full" / "x.wav").read_text() == "mine"


def test_a_link_to_a_folder_inside_an_own_one_is_not_followed(tmp_path):
    folder = make_own_folder(tmp_path / "audio")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "x.wav").touch()
    (folder / "link").symlink_to(tmp_path / "theirs")
    make_own_folder(folder)
    assert (tmp_path / "theirs" / "x.wav").exists() and not (folder / "link").exists()


def test_inputs_keep_an_own_folder_from_being_emptied(tmp_path):
    folder = make_own_folder(tmp_path / "audio")
    (folder / "x.wav").touch()
    with pytest.raises(ValueError, match="holds the input"):
        make_own_folder(folder, [folder / "x.wav"])
    assert (folder / "x.wav").exists()
