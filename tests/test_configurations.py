"""Every configuration that the project ships builds what it names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.train.distributed_utils import DistributedOption

from espnet2_tfckd.training.task import EnhancementKDTask, EnhancementTask

ROOT = Path(__file__).parent.parent
CONFIGURATIONS = sorted([*ROOT.glob("conf/**/*.yaml"), *ROOT.glob("egs2/*/*/conf/**/*.yaml")])
DISTILLATIONS = [path for path in CONFIGURATIONS if "distiller" in yaml.safe_load(path.open())]
# the arms of experiments that are one of these with other options
VARIANTS = [
    ((path.parents[1] / arm["distill_config"]).resolve(), arm["enh_args"].split())
    for path in ROOT.glob("egs2/*/*/conf/experiment*.yaml")
    for arm in yaml.safe_load(path.open())["arms"].values()
    if "--distiller_conf" in arm.get("enh_args", "")
]
LARGE = sorted(ROOT.glob("egs2/[!m]*/*/conf/*.yaml"))  # not the mini corpus
MODELS = [path for path in CONFIGURATIONS if "separator" in yaml.safe_load(path.open())]


# Distillations that name modules of ESPnet's separators, and the networks they fit
TEACHERS = {"distill_from_bsrnn": "tuning/teacher_bsrnn.yaml"}
STUDENTS = {"distill_to_dccrn": "tuning/student_dccrn.yaml"}


def build(path: Path, folder: Path):
    parser = EnhancementTask.get_parser()
    args = parser.parse_args(["--config", str(path), "--output_dir", str(folder)])
    return EnhancementTask.build_model(args), args


@pytest.mark.parametrize("path", MODELS, ids=lambda path: str(path.relative_to(ROOT)))
def test_model_builds_and_enhances(path, tmp_path):
    model, args = build(path, tmp_path)
    channels = args.separator_conf.get("microphones", 1)
    mixture = torch.randn(1, 8000, channels) if channels > 1 else torch.randn(1, 8000)
    (estimate,), *_ = model.eval().forward_enhance(mixture, torch.tensor([8000]), {})
    assert estimate.shape == (1, 8000)


@pytest.mark.parametrize("path", LARGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_silent_chunk_does_not_drown_the_others(path, tmp_path):
    model, args = build(path, tmp_path)
    channels = args.separator_conf.get("microphones", 1)
    mixture = 0.01 * torch.randn(1, 16000, *[channels] * (channels > 1))
    loss, *_ = model.train()(speech_mix=mixture, speech_ref1=torch.zeros(1, 16000))
    loss.backward()
    assert loss < 60  # ESPnet's default gives about 140
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("path", LARGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipes_for_large_corpora_validate_on_whole_utterances(path, tmp_path):
    lengths = {"a": 50000, "b": 90001, "c": 41234}
    arguments = ["--config", str(path), "--output_dir", str(tmp_path), "--num_workers", "0"]
    for name in ("speech_mix", "speech_ref1"):
        for utterance, length in lengths.items():
            soundfile.write(tmp_path / f"{utterance}.wav", 0.1 * np.ones(length), 16000)
        scp, shapes = tmp_path / f"{name}.scp", tmp_path / f"{name}_shape"
        scp.write_text("".join(f"{u} {tmp_path / u}.wav\n" for u in lengths))
        shapes.write_text("".join(f"{u} {length}\n" for u, length in lengths.items()))
        arguments += ["--valid_data_path_and_name_and_type", f"{scp},{name},sound"]
        arguments += ["--valid_shape_file", str(shapes)]
    args = EnhancementTask.get_parser().parse_args(arguments)
    factory = EnhancementTask.build_iter_factory(args, DistributedOption(), mode="valid")
    batches = {
        tuple(ids): [batch[name].shape for name in ("speech_mix", "speech_ref1")]
        for ids, batch in factory.build_iter(1)
    }
    assert batches == {(u,): [(1, length)] * 2 for u, length in lengths.items()}


@pytest.mark.parametrize(
    ("path", "options"),
    [(path, []) for path in DISTILLATIONS] + VARIANTS,
    ids=lambda value: value.stem if isinstance(value, Path) else " ".join(value),
)
def test_distillation_builds_and_has_a_loss(path, options, tmp_path):
    recipe = ROOT / "egs2/mini/enh1/conf"
    teacher, teacher_args = build(recipe / TEACHERS.get(path.stem, "teacher.yaml"), tmp_path)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(vars(teacher_args)))
    student = yaml.safe_load((recipe / STUDENTS.get(path.stem, "student.yaml")).open())
    student |= yaml.safe_load(path.open()) | {
        "teacher_config": str(tmp_path / "config.yaml"),
        "teacher_model_file": str(tmp_path / "teacher.pth"),
    }
    (tmp_path / "kd.yaml").write_text(yaml.safe_dump(student))
    parser = EnhancementKDTask.get_parser()
    args = parser.parse_args(
        ["--config", str(tmp_path / "kd.yaml"), "--output_dir", str(tmp_path / "kd"), *options]
    )
    for option in options[1:]:
        name, _, value = option.partition("=")
        assert args.distiller_conf[name] == yaml.safe_load(value)
    model = EnhancementKDTask.build_model(args).train()
    shape = (args.batch_size, args.chunk_length)
    loss, stats, _ = model(torch.randn(shape), speech_ref1=torch.randn(shape))
    assert torch.isfinite(loss) and stats["kd_loss"] != 0


def test_there_is_something_to_test():
    assert MODELS and DISTILLATIONS and len(LARGE) == 5 and len(VARIANTS) == 12
