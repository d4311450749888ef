"""One training in two processes: as one process, whatever happens to them."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from espnet2_tfckd.bin import enh_kd_train
from espnet2_tfckd.data.locking import LOCK, only_one
from espnet2_tfckd.training.ranks import LOCK_VARIABLE, prepare_rank
from tests.ranks import WORLD, on_ranks
from tests.training.distilling import batch, build, kd_options


def gradients(folder: Path, teacher: Path) -> dict[str, torch.Tensor]:
    """Gradients of a batch, of which every process sees its share, in double precision.

    They are summed over two passes, of which one is distilled.
    """
    ranks = distributed.get_world_size() if distributed.is_initialized() else 1
    rank = distributed.get_rank() if ranks > 1 else 0
    model = build(folder / str(rank), teacher, distill_every=2).double().train()
    wrapped = DistributedDataParallel(model) if ranks > 1 else model
    share = {name: signal[rank::ranks].double() for name, signal in batch().items()}
    for _ in range(2):
        loss, _, _ = wrapped(**share)
        loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_of_two_ranks_are_those_of_one_process(tmp_path, teacher_files):
    whole = gradients(tmp_path, teacher_files)
    largest = max(gradient.abs().max() for gradient in whole.values())
    for part in on_ranks(tmp_path / "ranks", gradients, tmp_path, teacher_files):
        assert part.keys() == whole.keys()
        for name, gradient in part.items():
            assert (gradient - whole[name]).abs().max() < 1e-9 * largest, name


def options_of(folder: Path, teacher: Path, **changes) -> list[str]:
    """Options of a training without pictures, which take longer than it."""
    return kd_options(folder, teacher, use_tensorboard=False, use_matplotlib=False, **changes)


def run_trainer(options: list[str], meet: Path) -> None:
    enh_kd_train.main([*options, *together(meet)])


def together(meet: Path) -> list[str]:
    return ["--dist_backend", "gloo", "--dist_init_method", f"file://{meet}"] + [
        "--multiprocessing_distributed",
        "true",
        "--resume",
        "true",
    ]


def train_on_ranks(tmp_path: Path, options: list[str], name: str) -> None:
    meet = tmp_path / f"meet_{name}"
    on_ranks(tmp_path / f"ranks_{name}", run_trainer, options, meet, join=False)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint.pth", weights_only=False)["model"]


def assert_equal_weights(folder: Path, other: Path) -> None:
    own, others = weights(folder), weights(other)
    assert own.keys() == others.keys()
    for name, value in own.items():
        assert torch.equal(value, others[name]), name


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory, teacher_files, lasting_data):
    """Folder of a training of two epochs on two ranks."""
    folder = tmp_path_factory.mktemp("two_ranks")
    options = options_of(folder / "kd", teacher_files, max_epoch=2) + lasting_data
    train_on_ranks(folder, options, "whole")
    return folder / "kd"


def test_updates_are_those_of_one_process(two_epochs, teacher_files, lasting_data, tmp_path):
    enh_kd_train.main(options_of(tmp_path / "kd", teacher_files, max_epoch=2) + lasting_data)
    updates = [
        int(weights(folder)["distiller.updates"]) for folder in (two_epochs, tmp_path / "kd")
    ]
    assert updates[0] == updates[1] > 0


def test_when_one_process_is_killed_all_end_and_the_training_goes_on_from_the_copy(
    two_epochs, teacher_files, lasting_data, tmp_path
):
    folder = tmp_path / "kd"
    many = options_of(folder, teacher_files, max_epoch=500) + lasting_data
    command = [sys.executable, "-m", "espnet2_tfckd.bin.enh_kd_train", *many]
    command += together(tmp_path / "meet")
    environment = {**os.environ, "WORLD_SIZE": str(WORLD), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank)}, stderr=subprocess.DEVNULL)
        for rank in range(WORLD)
    ]
    try:
        deadline = time.monotonic() + 300
        while not (folder / "checkpoint.backup.pth").exists() and time.monotonic() < deadline:
            assert [process.poll() for process in processes] == [None] * WORLD
            time.sleep(0.1)
        processes[1].send_signal(signal.SIGKILL)
        assert processes[0].wait(timeout=120) not in (0, None)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    checkpoint = folder / "checkpoint.pth"
    epochs = max(2, torch.load(checkpoint, weights_only=False)["reporter"]["epoch"])
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    undisturbed = shutil.copytree(two_epochs, tmp_path / "undisturbed", symlinks=True)
    for one in (folder, undisturbed):
        options = options_of(one, teacher_files, max_epoch=epochs) + lasting_data
        train_on_ranks(tmp_path, options, one.name)
    assert_equal_weights(folder, undisturbed)


class TestOneRank:
    """Each process of several."""

    @pytest.fixture
    def args(self):
        return argparse.Namespace(seed=1, dist_rank=0, dist_launcher=None)

    def test_draws_other_noises_than_the_others(self, args):
        seeds = set()
        for rank in range(4):
            other = argparse.Namespace(**{**vars(args), "dist_rank": rank})
            prepare_rank(other)
            # ESPnet adds the epoch
            seeds |= {other.seed + epoch for epoch in range(1000)}
        assert len(seeds) == 4000 and 1 in seeds

    def test_sees_the_lock_of_the_stage(self, args, tmp_path, monkeypatch):
        monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / LOCK))
        with only_one(tmp_path):
            prepare_rank(args)
        with pytest.raises(RuntimeError, match=r"locked on another machine.*does not see"):
            prepare_rank(args)
