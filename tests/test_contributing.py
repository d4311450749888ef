"""The worked examples of CONTRIBUTING.md do what it says, as they stand there."""

import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.scoring import columns, metrics, workers
from tests.recipes import RATE, ROOT, copy_repository, run

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: Blocks that begin with the name of a file.
EXAMPLES = dict(re.findall(r"```\w+\n# ([\w./]+\.\w+)\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def package(tmp_path):
    """The example's package as pip installs it: modules, and metadata with its entry points."""
    for name, content in EXAMPLES.items():
        if not name.startswith(("egs2/", "espnet2_tfckd/")):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
    project = tomllib.loads(EXAMPLES["pyproject.toml"])["project"]
    metadata = tmp_path / f"{project['name']}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


DISTIL = """
import sys, torch, yaml
sys.path.append(".")
from espnet2_tfckd.training.task import EnhancementKDTask, EnhancementTask

def arguments(task, config, *options):
    return task.get_parser().parse_args(["--config", config, "--output_dir", "exp", *options])

args = arguments(EnhancementTask, TEACHER)
torch.save(EnhancementTask.build_model(args).state_dict(), "teacher.pth")
open("config.yaml", "w").write(yaml.safe_dump(vars(args)))
config = yaml.safe_load(open("student_gru.yaml")) | yaml.safe_load(open("distill_envelope.yaml"))
open("train.yaml", "w").write(yaml.safe_dump(config))
model = EnhancementKDTask.build_model(arguments(EnhancementKDTask, "train.yaml",
    "--teacher_config", "config.yaml", "--teacher_model_file", "teacher.pth"))
assert model.distiller.floor == 1e-4 and model.separator.gru.hidden_size == 24
batch = torch.randn(4, 16000, generator=torch.Generator().manual_seed(0))
loss, stats, _ = model(batch, speech_ref1=batch)
loss.backward()
assert stats["kd_loss"] > 0 and model.separator.encoder.weight.grad.abs().sum() > 0
print(sorted(name for name in stats if name.startswith("kd_")))
"""


def test_a_package_adds_a_scheme_and_a_separator(package):
    teacher = ROOT / "egs2/mini/enh1/conf/teacher.yaml"
    code = f"TEACHER = {str(teacher)!r}\n{DISTIL}"
    done = subprocess.run([sys.executable, "-c", code], cwd=package, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kd_encoder0" in done.stdout and "kd_decoder0" in done.stdout


def test_a_corpus(tmp_path):
    copy_repository(tmp_path, "mini")
    for name, content in EXAMPLES.items():
        if name.startswith("egs2/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shebang = "#!/usr/bin/env bash\n" if name.endswith(".sh") else ""
            (tmp_path / name).write_text(shebang + content)
            (tmp_path / name).chmod(0o755)
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        for kind in ("noisy", "clean"):
            folder = tmp_path / "corpus" / split / kind
            folder.mkdir(parents=True)
            for number in range(2):
                soundfile.write(folder / f"ann_{number}.wav", rng.normal(0, 0.1, 2 * RATE), RATE)
    command = ("./run.sh", "--corpus", "my_corpus", "--corpus_dir", str(tmp_path / "corpus"))
    done = run(tmp_path, *command, "--stop_stage", "5", "--nj", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    recipe = tmp_path / "egs2/my_corpus/enh1"
    assert len((recipe / "dump/raw/train/wav.scp").read_text().splitlines()) == 2
    done = run(tmp_path, *command, "--stop_stage", "1", "--nj", "1")
    assert "the data directories are up to date" in done.stdout


def test_a_metric(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "PROTOCOLS", dict(metrics.PROTOCOLS))
    monkeypatch.setattr(workers, "PROTOCOLS", metrics.PROTOCOLS)
    scope = {name: dict(vars(module)) for name, module in (("m", metrics), ("c", columns))}
    exec(EXAMPLES["espnet2_tfckd/scoring/metrics.py"], scope["m"])
    scope["c"]["SCORES"] = dict(columns.SCORES)
    exec(EXAMPLES["espnet2_tfckd/scoring/columns.py"], scope["c"])
    signal = np.random.default_rng(0).normal(0, 0.1, RATE)
    for name, samples in (("reference", signal), ("estimate", 0.5 * signal)):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, "FLOAT")
    soundfile.write(tmp_path / "silent.wav", 0 * signal, RATE, "FLOAT")

    def score(reference):
        paths = {"reference": tmp_path / reference, "estimate": tmp_path / "estimate.wav"}
        source = {name: str(path) for name, path in paths.items()} | {"ref_channel": 0}
        return workers.score_utterance("ann", source, ["LEVEL"])

    value = score("reference.wav")["scores"]["level_error"]
    assert scope["c"]["SCORES"]["level_error"].text(value, with_unit=True) == "-6.0 dB"
    assert score("silent.wav")["failed"] == {"level_error": "LEVEL: the reference is silent"}
