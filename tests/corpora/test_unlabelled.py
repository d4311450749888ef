"""Recordings without references: cut, enhanced by a teacher, and joined to the training set."""

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.corpora.unlabelled import NAME, prepare_unlabelled
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import read_entry
from espnet2_tfckd.stages.join_unlabelled import join_unlabelled

RATE = 16000


@pytest.fixture
def recordings(tmp_path):
    """Folder with 23 s at 16 kHz, and 12 s at 8 kHz of which 6 s are silent."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "field recordings"
    (folder / "day 1").mkdir(parents=True)
    soundfile.write(folder / "street.wav", 0.1 * rng.standard_normal(23 * RATE), RATE)
    half = np.concatenate([np.zeros(6 * 8000), 0.1 * rng.standard_normal(6 * 8000)])
    soundfile.write(folder / "day 1" / "tram.flac", half, 8000)
    (folder / "notes.txt").write_text("not audio")
    return folder


def contents(data_dir):
    data = read_data_dir(data_dir / NAME)
    return data, {utterance: read_entry(entry) for utterance, entry in data.mixture.items()}


def test_recordings_are_cut_into_equal_pieces(recordings, tmp_path):
    prepare_unlabelled(recordings, tmp_path / "data")
    data, audio = contents(tmp_path / "data")
    assert sorted(audio) == [
        "unlabelled-day-1-tram-0001",  # the piece before it is silent
        *(f"unlabelled-street-{number:04d}" for number in range(3)),
    ]
    assert data.reference == data.mixture and set(data.speaker.values()) == {"unlabelled"}
    joined = np.concatenate([audio[f"unlabelled-street-{n:04d}"][0] for n in range(3)])
    original, _ = soundfile.read(recordings / "street.wav", always_2d=True)
    np.testing.assert_allclose(joined, original, atol=2**-15)
    tram, rate = audio["unlabelled-day-1-tram-0001"]
    assert rate == 8000 and len(tram) == 6 * 8000


def test_it_is_done_once_and_again_when_a_recording_changes(recordings, tmp_path, capsys):
    prepare_unlabelled(recordings, tmp_path / "data")
    prepare_unlabelled(recordings, tmp_path / "data")
    assert "up to date" in capsys.readouterr().out
    soundfile.write(recordings / "street.wav", 0.1 * np.ones(RATE), RATE)
    prepare_unlabelled(recordings, tmp_path / "data")
    assert len(contents(tmp_path / "data")[0]) == 2


@pytest.mark.parametrize(
    ("name", "samples", "words"),
    [
        ("cut off.wav", None, "is not readable audio"),
        ("silent.wav", np.zeros(RATE), "is silent: replace or remove it"),
        ("click.wav", np.ones(100), "lasts less than 0.5 s: remove it"),
    ],
)
def test_what_cannot_be_used_is_listed(name, samples, words, recordings, tmp_path):
    if samples is None:
        (recordings / name).write_bytes(b"RIFF")
    else:
        soundfile.write(recordings / name, samples, RATE)
    with pytest.raises(ValueError, match=f"{name}.*{words}"):
        prepare_unlabelled(recordings, tmp_path / "data")
    assert name in (tmp_path / "data" / "bad_files.txt").read_text()
    assert not (tmp_path / "data" / NAME / "wav.scp").exists()
    (recordings / name).unlink()
    prepare_unlabelled(recordings, tmp_path / "data")
    assert not (tmp_path / "data" / "bad_files.txt").exists()


@pytest.mark.parametrize("name", ["street.flac", "day-1-tram.wav"])
def test_recordings_that_would_get_one_id_are_refused(name, recordings, tmp_path):
    soundfile.write(recordings / name, 0.1 * np.ones(RATE), RATE)
    with pytest.raises(ValueError, match="would get the same id as .*: rename one of them"):
        prepare_unlabelled(recordings, tmp_path / "data")
    assert not (tmp_path / "data" / NAME / "wav.scp").exists()


def test_folders_without_recordings_are_refused(recordings, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        prepare_unlabelled(tmp_path / "nothing", tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no audio files"):
        prepare_unlabelled(tmp_path / "empty", tmp_path / "data")
    with pytest.raises(ValueError, match="field recordings"):
        prepare_unlabelled(recordings, recordings / "data")
    assert len(list(recordings.rglob("*.*"))) == 3


@pytest.fixture
def estimates(recordings, tmp_path):
    """Of the pieces: half of each, but silence for the last; as an scp."""
    prepare_unlabelled(recordings, tmp_path / "data")
    lines = []
    for number, (utterance, (samples, rate)) in enumerate(contents(tmp_path / "data")[1].items()):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, samples * (0.5 if number < 3 else 0), rate, "FLOAT")
        lines.append(f"{utterance} {path}\n")
    (tmp_path / "teacher.scp").write_text("".join(lines))
    return tmp_path / "teacher.scp"


def test_estimates_become_references(data_dir, estimates, tmp_path, capsys):
    unlabelled = tmp_path / "data" / NAME
    assert join_unlabelled(data_dir, unlabelled, estimates, tmp_path / "joined") == 3
    joined, train = read_data_dir(tmp_path / "joined"), read_data_dir(data_dir)
    assert len(joined) == len(train) + 3
    for utterance, entry in joined.mixture.items():
        mixture, reference = read_entry(entry)[0], read_entry(joined.reference[utterance])[0]
        if utterance in train.mixture:
            assert joined.reference[utterance] == train.reference[utterance]
        else:
            np.testing.assert_allclose(reference, 0.5 * mixture, atol=1e-6)
    said = capsys.readouterr().out
    assert "in 1 more the teacher hears no speech" in said and "0.0 dB (median)" in said


def test_what_does_not_belong_together_is_refused(data_dir, estimates, tmp_path):
    unlabelled, out = tmp_path / "data" / NAME, tmp_path / "joined"
    lines = estimates.read_text().splitlines(keepends=True)
    estimates.write_text("".join(lines[1:]))
    with pytest.raises(ValueError, match="unlabelled-day-1-tram-0001 has no estimate in"):
        join_unlabelled(data_dir, unlabelled, estimates, out)
    silent = lines[-1].split()[1]
    estimates.write_text("".join(f"{line.split()[0]} {silent}\n" for line in lines))
    with pytest.raises(ValueError, match="silent.*take recordings of speech, or another teacher"):
        join_unlabelled(data_dir, unlabelled, estimates, out)
    assert not out.exists() or not (out / "wav.scp").exists()
