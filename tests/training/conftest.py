"""A tiny teacher, and audio to distil on."""

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet2_tfckd.training.task import EnhancementTask
from tests.training.distilling import CHUNK, configuration, write_yaml


@pytest.fixture(scope="session")
def teacher_files(tmp_path_factory):
    """Directory of an untrained teacher with two dual-path blocks."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    config = configuration(separator_conf={"channels": 16, "heads": 2, "blocks": 2})
    path = write_yaml(folder / "train.yaml", config)
    args = EnhancementTask.get_parser().parse_args(["--config", path, "--output_dir", str(folder)])
    torch.save(EnhancementTask.build_model(args).state_dict(), folder / "teacher.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    return folder


@pytest.fixture
def data(tmp_path):
    """Options that name four utterances of random audio for training and validation."""
    return random_data(tmp_path)


@pytest.fixture(scope="session")
def lasting_data(tmp_path_factory):
    """The same, for several tests."""
    return random_data(tmp_path_factory.mktemp("data"))


def random_data(folder):
    rng = np.random.default_rng(0)
    files = {"speech_mix": "wav.scp", "speech_ref1": "spk1.scp"}
    options = []
    for name, scp in files.items():
        lines, shapes = [], []
        for n in range(4):
            path = folder / f"{name}{n}.wav"
            soundfile.write(path, rng.standard_normal(2 * CHUNK + 1) * 0.1, 16000)
            lines.append(f"utt{n} {path}\n")
            shapes.append(f"utt{n} {2 * CHUNK + 1}\n")
        (folder / scp).write_text("".join(lines))
        (folder / f"{name}_shape").write_text("".join(shapes))
        for phase in ("train", "valid"):
            options += [f"--{phase}_data_path_and_name_and_type", f"{folder / scp},{name},sound"]
            options += [f"--{phase}_shape_file", str(folder / f"{name}_shape")]
    return options
