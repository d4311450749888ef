"""One process at a time in a directory, in every stage that writes data."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from functools import partial

import pytest
import soundfile

from espnet2_tfckd.corpora import l3das23_files
from espnet2_tfckd.corpora.custom import OwnData, prepare_custom
from espnet2_tfckd.corpora.download import fetch_zips, unpack_flat
from espnet2_tfckd.corpora.l3das23 import prepare_l3das23
from espnet2_tfckd.corpora.mini import prepare_mini
from espnet2_tfckd.corpora.vctk_noisy import ZIPS, prepare_vctk_noisy
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.locking import LOCK, is_locked, only_one
from espnet2_tfckd.stages.extract_noise import extract_noise
from espnet2_tfckd.stages.filter import filter_data_dir
from espnet2_tfckd.stages.format import format_data_dir
from espnet2_tfckd.stages.speed_perturb import speed_perturb
from tests.corpora import l3das23_tree, vctk_tree
from tests.corpora.mini_packages import RATE, write_packages
from tests.stages.pairs import make_data_dir, signals

HOLDER = """
import sys
from espnet2_tfckd.data.locking import only_one
with only_one(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Have another process hold a directory; gives that process."""
    processes = []

    def start(directory):
        command = [sys.executable, "-c", HOLDER, str(directory)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, **pipes))
        assert processes[-1].stdout.readline() == "held\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def stage(work):
    def prepared(root):
        make_data_dir(root / "in")
        return partial(work, root / "in", root / "out"), root / "out"

    return prepared


def of_mini(root):
    counts = {"train_utts": 1, "valid_utts": 1, "test_utts": 1}
    options = {**counts, "source_dir": write_packages(root / "packages")}
    return partial(prepare_mini, root / "got", root / "data", **options), root / "data"


def of_custom(root):
    for speaker in ("ann", "bob", "cid"):
        mixture, reference = signals("ann-2")
        for kind, signal in (("noisy", mixture), ("clean", reference)):
            (root / kind / speaker).mkdir(parents=True)
            soundfile.write(root / kind / speaker / "a.wav", signal, RATE)
    own = OwnData(mixture_dir=str(root / "noisy"), reference_dir=str(root / "clean"))
    return partial(prepare_custom, own, root / "data"), root / "data"


def of_l3das23(root):
    l3das23_tree.write_tree(root / "corpus", 0.3)
    return partial(prepare_l3das23, root / "corpus", root / "data"), root / "data"


def of_voicebank(root):
    vctk_tree.write_tree(root / "corpus")
    work = partial(prepare_vctk_noisy, root / "corpus", root / "data", allow_incomplete=True)
    return work, root / "data"


def unpacking(root):
    vctk_tree.write_tree(root / "corpus")
    folder = root / "corpus" / "clean_testset_wav"
    vctk_tree.zip_folder(folder)
    return partial(unpack_flat, folder.with_suffix(".zip"), folder, ".wav"), root / "corpus"


def noise(root):
    make_data_dir(root / "data")
    return partial(extract_noise, root / "data"), root / "data"


WORK = {
    "stage 1, mini": of_mini,
    "stage 1, custom": of_custom,
    "stage 1, L3DAS23": of_l3das23,
    "stage 1, VoiceBank": of_voicebank,
    "stage 1, unpacking": unpacking,
    "stage 2": stage(lambda source, target: speed_perturb(source, target, [0.9, 1.0])),
    "stage 3": stage(format_data_dir),
    "stage 4": stage(partial(filter_data_dir, min_wav_duration=0.1, max_wav_duration=30)),
    "stage 4, noise": noise,
}


@pytest.mark.parametrize("prepared", WORK.values(), ids=WORK)
def test_a_second_process_is_refused_until_the_first_is_gone(prepared, tmp_path, hold):
    work, directory = prepared(tmp_path)
    holder = hold(directory)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError, match=f"another process is working on {directory}: wait"):
        work()
    assert sorted(tmp_path.rglob("*")) == before
    holder.kill()
    holder.wait()
    assert (directory / ".lock").exists()
    work()


def test_downloads_to_one_folder_exclude_each_other(tmp_path, hold, monkeypatch):
    hold(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kaggle").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "kaggle").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for work in (partial(fetch_zips, ZIPS), l3das23_files.fetch):
        with pytest.raises(RuntimeError, match="another process is working on"):
            work(tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_two_runs_of_a_stage_at_once(tmp_path):
    """The first waits for audio that comes through a pipe, is killed, and hinders nobody then."""
    data = make_data_dir(tmp_path / "in")
    audio = data.mixture["bob-1"]
    shutil.move(audio, tmp_path / "kept.wav")
    os.mkfifo(audio)
    command = [sys.executable, "-m", "espnet2_tfckd.stages.format", "in", "out", "--fs", "8k"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    with subprocess.Popen(command, **pipes) as first:
        with open(audio, "wb"):  # opens once the first run reads it, which then waits for more
            second = subprocess.run(command, **pipes, timeout=120, check=False)
            assert (second.returncode, first.poll()) == (1, None)
            message = "error: another process is working on out: wait until it is done, or end it"
            assert second.stderr.splitlines()[-1] == message
            first.kill()
            first.wait()
    shutil.move(tmp_path / "kept.wav", audio)
    subprocess.run(command, **pipes, timeout=120, check=True)
    assert len(read_data_dir(tmp_path / "out")) == 3


@pytest.mark.parametrize("has_locks", [True, False])
def test_nfs_locks_only_what_is_open_for_writing(tmp_path, monkeypatch, has_locks):
    locked = []

    def flock(file, operation):
        can_write = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        if not can_write or (locked and not has_locks):
            raise OSError(errno.EBADF, "Bad file descriptor")
        if locked:
            raise BlockingIOError
        locked.append(file)

    monkeypatch.setattr(fcntl, "flock", flock)
    with nullcontext() if has_locks else pytest.raises(RuntimeError, match="does not lock files"):
        with only_one(tmp_path):
            assert is_locked(tmp_path / LOCK)


def test_it_is_let_go_of_after_an_error(tmp_path):
    with pytest.raises(ValueError, match="wrong"), only_one(tmp_path):
        raise ValueError("wrong")
    with only_one(tmp_path):
        pass
