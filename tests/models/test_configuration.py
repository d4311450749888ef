"""One reader of YAML: what it refuses, with the file's name, the problem and the remedy."""

import pytest

from espnet2_tfckd.models.configuration import MAX_YAML_BYTES, read_yaml

BOMB = "a: &a [0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_options_with_their_values(tmp_path):
    (tmp_path / "a.yaml").write_text("a: {b: [1, x]}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": [1, "x"]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "a.yaml is not valid YAML .*line 1.*: correct or replace it"),
        ("a: 1\nb: {c: 1, c: 2}", "a.yaml .*'c' is given twice, line 2"),
        ("a: !!python/name:os.system", "a.yaml is not valid YAML"),
        (BOMB, "a.yaml .*stand for too many values"),
        ("#" * (MAX_YAML_BYTES + 1), "a.yaml has .* bytes, more than"),
        ("- a", "a.yaml holds no options: write lines as in 'max_epoch: 10'"),
        ("", "a.yaml holds no options"),
    ],
)
def test_what_holds_no_options_is_refused(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_yaml(tmp_path / "a.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a.yaml is not there: correct its name"):
        read_yaml(tmp_path / "a.yaml")
