"""The DNS Challenge's trees become speech, noise and rooms to be mixed at each visit."""

import shutil

import pytest
import soundfile

from espnet2_tfckd.corpora import dns
from espnet2_tfckd.corpora.dns import find_challenge, prepare_dns
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import read_entry
from tests.corpora.dns_tree import FOLDERS, READERS, write_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("dns"), "third")


def prepared(tree, folder, **options):
    prepare_dns(tree, folder, **{"heldout_utts": 3, **options})
    names = sorted(path.parent.name for path in folder.glob("*/wav.scp"))
    return {name: read_data_dir(folder / name) for name in names}


@pytest.mark.parametrize("layout", FOLDERS)
def test_the_trees_of_all_challenges_are_found(layout, tmp_path):
    root = write_tree(tmp_path, layout, seconds=1)
    inner = root / FOLDERS[layout][0].partition("/")[0]
    for given in (root, inner):
        found = find_challenge(given, ["read_speech"])
        assert len(list(found.speech["read_speech"].glob("*.wav"))) == 3 * READERS
        assert len(list(found.noise.glob("*.wav"))) == 12
        assert found.rooms and sorted(found.tests) == ["test", "test_reverb"]


def test_training_speech_stays_where_it_is_and_is_its_own_reference(tree, tmp_path):
    sets = prepared(tree, tmp_path / "data")
    train = sets["train"]
    assert train.mixture == train.reference and len(train) == 3 * (READERS - 1)
    assert all(str(tree) in path for path in train.mixture.values())
    written = {path.parts[-3] for path in (tmp_path / "data" / "audio").rglob("*.wav")}
    assert written == {"valid"}
    assert len(sets["train_noise"]) == 10 and len(sets["train_rooms"]) == 3


def test_sets_share_no_speaker_and_no_noise(tree, tmp_path):
    sets = prepared(tree, tmp_path / "data", rooms=False)
    assert "train_rooms" not in sets and 0 < len(sets["valid"]) <= 3
    assert not set(sets["train"].speaker.values()) & set(sets["valid"].speaker.values())
    heard = {row["noise"] for row in sets["valid"].metadata.values()}
    mixed = {path.rpartition("/")[2][:-4] for path in sets["train_noise"].mixture.values()}
    assert heard and not heard & mixed


def test_the_synthetic_test_sets_are_paired_by_number(tree, tmp_path):
    sets = prepared(tree, tmp_path / "data")
    for name in ("test", "test_reverb"):
        data = sets[name]
        assert list(data.mixture) == ["dns-fileid00000", "dns-fileid00007"]
        for utterance in data.mixture:
            number = f"fileid_{int(utterance[-5:])}.wav"
            assert data.mixture[utterance].endswith(number)
            assert data.reference[utterance].endswith(f"clean_{number}")


def test_without_a_test_set_further_speakers_make_one(tmp_path):
    tree = write_tree(tmp_path / "dns", "fourth", with_tests=False)
    sets = prepared(tree, tmp_path / "data")
    speakers = [set(sets[name].speaker.values()) for name in ("train", "valid", "test")]
    assert not (speakers[0] & speakers[1] or speakers[1] & speakers[2] or speakers[0] & speakers[2])


def test_hours_are_drawn_by_the_seed(tree, tmp_path, capsys):
    hours = 5 * 3 / 3600  # five recordings
    one, again, other = (
        prepared(tree, tmp_path / name, hours=hours, seed=seed)["train"].mixture
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert len(one) == len(other) == 5 and one == again and one != other
    prepared(tree, tmp_path / "d", hours=1.0)
    assert "there are only 0.0 hours" in capsys.readouterr().out


def test_a_second_run_does_nothing_and_rooms_that_are_left_out_go(tree, tmp_path, capsys):
    prepared(tree, tmp_path / "data")
    capsys.readouterr()
    prepared(tree, tmp_path / "data")
    assert "up to date" in capsys.readouterr().out
    assert "train_rooms" not in prepared(tree, tmp_path / "data", rooms=False)


def test_what_cannot_be_used_is_listed_and_left_out_or_ends_it(tree, tmp_path):
    copy = shutil.copytree(tree, tmp_path / "dns")
    folder = copy / FOLDERS["third"][0]
    broken = folder / "book_00000_chp_0009_reader_00709_0.wav"
    broken.write_bytes(broken.read_bytes()[:20])
    with pytest.raises(ValueError, match="1 problem"):
        prepared(copy, tmp_path / "data", on_bad_file="error")
    sets = prepared(copy, tmp_path / "data")
    assert broken.name in (tmp_path / "data" / "bad_files.txt").read_text()
    used = {path for data in sets.values() for path in data.mixture.values()}
    assert not any(path.endswith(broken.name) for path in used)


def test_missing_folders_are_named(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        find_challenge(tmp_path / "nowhere", ["read_speech"])
    with pytest.raises(FileNotFoundError, match=r"speech klingon \(in datasets.*subsets"):
        find_challenge(tree, ["klingon"])


def test_a_test_mixture_without_a_reference_is_named(tree, tmp_path):
    copy = shutil.copytree(tree, tmp_path / "dns")
    folder = copy / "datasets" / "test_set" / "synthetic" / "no_reverb" / "clean"
    (folder / "clean_fileid_7.wav").unlink()
    with pytest.raises(ValueError, match="fileid_7 has no counterpart"):
        prepared(copy, tmp_path / "data")


def test_command_line(tree, tmp_path, capsys):
    arguments = ["--dns_dir", str(tree), "--data_dir", str(tmp_path), "--heldout_utts", "2"]
    dns.main([*arguments, "--subsets", "read_speech", "--rooms", "false"])
    assert "found 18 recordings of speech, 12 of noise, 0 room responses" in capsys.readouterr().out
    mixture = read_data_dir(tmp_path / "valid").mixture
    assert len(mixture) == 2
    assert all(read_entry(path)[0].shape[1] == 1 for path in mixture.values())
    assert soundfile.info(next(iter(mixture.values()))).samplerate == 16000
    with pytest.raises(SystemExit):
        dns.main([*arguments, "--hours", "0"])
