"""Checkpoints within an epoch: one that was interrupted ends as if it had not been."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet2_tfckd.bin import enh_kd_train, enh_train
from espnet2_tfckd.training import unfinished
from espnet2_tfckd.training.model import ESPnetEnhancementModel
from espnet2_tfckd.training.settings import UNFINISHED
from tests.ranks import on_ranks
from tests.training.distilling import configuration, kd_options, write_yaml
from tests.training.test_ranks import assert_equal_weights, together

EVERY = 2  # batches
QUICK = {"use_tensorboard": False, "use_matplotlib": False, "save_minutes": 0, "resume": True}
# nine chunks of an utterance, so that an epoch has 18 batches
MANY = {"chunk_shift_ratio": 0.125, **QUICK}


class Interrupted(Exception):
    """Stands for a power cut."""


def run(main, options: list[str], batches: int | None = None) -> int:
    """Train; interrupted after so many batches. Returns how many there were."""
    seen = 0
    forward = ESPnetEnhancementModel.forward

    def counted(model, *args, **kwargs):
        nonlocal seen
        if model.training:
            if seen == batches:
                raise Interrupted
            seen += 1
        return forward(model, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unfinished, "INTERVAL", EVERY)
        patch.setattr(ESPnetEnhancementModel, "forward", counted)
        if batches is None:
            main(options)
        else:
            with pytest.raises(Interrupted):
                main(options)
    return seen


@pytest.fixture(scope="module")
def random_training(tmp_path_factory, lasting_data):
    """Options of a training with dropout, and noises that are mixed anew at each visit."""
    folder = tmp_path_factory.mktemp("random")
    rng = np.random.default_rng(1)
    lines = []
    for n in range(3):
        soundfile.write(folder / f"noise{n}.wav", rng.standard_normal(20000) * 0.1, 16000)
        lines.append(f"noise{n} {folder}/noise{n}.wav\n")
    (folder / "noise.scp").write_text("".join(lines))
    config = configuration(
        separator="skim",
        separator_conf={"layer": 1, "unit": 8, "segment_size": 20, "dropout": 0.3, "num_spk": 1},
        preprocessor="enh",
        noise_scp=str(folder / "noise.scp"),
        noise_db_range="0_10",
        sample_rate=16000,
        accum_grad=3,
        scheduler="warmuplr",
        scheduler_conf={"warmup_steps": 3},
        max_epoch=2,
        **MANY,
    )
    return ["--config", write_yaml(folder / "train.yaml", config), *lasting_data]


def states(folder: Path) -> dict:
    return torch.load(folder / "checkpoint.pth", weights_only=False)


def assert_equal(left, right, where: str = "") -> None:
    """Nothing differs except what was measured by the clock."""
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            if not str(key).endswith("time"):
                assert_equal(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for n, pair in enumerate(zip(left, right, strict=True)):
            assert_equal(*pair, f"{where}.{n}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    else:
        assert left == right or (left != left and right != right), where


@pytest.fixture(scope="module")
def undisturbed(random_training, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    batches = run(enh_train.main, [*random_training, "--output_dir", str(folder)])
    assert not (folder / UNFINISHED).exists()
    return states(folder), batches


@pytest.mark.parametrize("cuts", [[7], [8, 3, 9], [13, 20]])
def test_an_interrupted_epoch_ends_as_if_it_had_not_been(
    cuts, random_training, undisturbed, tmp_path
):
    options = [*random_training, "--output_dir", str(tmp_path)]
    for batches in cuts:
        run(enh_train.main, options, batches)
    whole, all_batches = undisturbed
    # saved every 6 batches: where a point of two batches is also the end of an update of three
    assert run(enh_train.main, options) < all_batches - min(cuts) + 6
    assert_equal(states(tmp_path), whole)


def test_a_distillation_counts_its_updates_on(teacher_files, lasting_data, tmp_path):
    def options(name):
        changes = {"distill_every": 3, **MANY}
        return [*kd_options(tmp_path / name, teacher_files, **changes), *lasting_data]

    run(enh_kd_train.main, options("cut"), 7)
    left = run(enh_kd_train.main, options("cut"))
    assert run(enh_kd_train.main, options("whole")) == left + 6
    assert_equal(states(tmp_path / "cut"), states(tmp_path / "whole"))


def run_rank(options: list[str], meet: Path, batches: int | None) -> int:
    return run(enh_kd_train.main, [*options, *together(meet)], batches)


def test_several_processes_continue_together(teacher_files, lasting_data, tmp_path):
    for name, cuts in {"cut": [5, None], "whole": [None]}.items():
        for n, batches in enumerate(cuts):
            options = kd_options(tmp_path / name, teacher_files, **MANY) + lasting_data
            files = [tmp_path / f"{what}_{name}_{n}" for what in ("ranks", "meet")]
            on_ranks(files[0], run_rank, options, files[1], batches, join=False)
    assert_equal_weights(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("damage", ["damaged", "of an epoch that ended", "not to be resumed"])
def test_what_does_not_belong_to_the_epoch_is_left_out(
    damage, random_training, undisturbed, tmp_path
):
    options = [*random_training, "--output_dir", str(tmp_path)]
    run(enh_train.main, options, 9)
    saved = tmp_path / UNFINISHED
    if damage == "damaged":
        saved.write_bytes(saved.read_bytes()[:1000])
    elif damage == "of an epoch that ended":
        old = shutil.copyfile(saved, tmp_path / "old")
        run(enh_train.main, [*options, "--max_epoch", "1"])
        old.rename(saved)
    else:
        options += ["--resume", "false"]
    run(enh_train.main, options)
    assert_equal(states(tmp_path), undisturbed[0])


def test_without_time_to_save_nothing_is_written(random_training, tmp_path):
    options = [*random_training, "--output_dir", str(tmp_path), "--save_minutes", "10"]
    run(enh_train.main, options, 9)
    assert not (tmp_path / UNFINISHED).exists()
