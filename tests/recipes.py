"""A copy of the repository, and tiny networks and recordings, for tests of whole recipes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import yaml

ROOT = Path(__file__).parents[1]
RATE = 16000
STFT = {"n_fft": 128, "hop_length": 64}
TINY = {
    "encoder": "stft",
    "encoder_conf": STFT,
    "separator": "dpdcrn",
    "separator_conf": {"channels": 8, "blocks": 1, "dense_depth": 1},
    "decoder": "stft",
    "decoder_conf": STFT,
    "criterions": [
        {"name": "si_snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {"weight": 1}}
    ],
    "iterator_type": "chunk",
    "chunk_length": 8000,
    "batch_size": 2,
    "num_workers": 0,
    "sample_rate": RATE,
    "max_epoch": 1,
    "optim": "adam",
    "best_model_criterion": [["valid", "loss", "min"]],
    "keep_nbest_models": 1,
    "use_tensorboard": False,
    "use_matplotlib": False,
}
DISTILLATION = {"distiller": "i2srf_tfckd", "distiller_conf": {"fusion_channels": 4}}
# Options that name what write_configs leaves at the top of a copy.
CONFIGS = [
    word
    for name in ("teacher", "student", "distill")
    for word in (f"--{name}_config", f"{name}.yaml")
]


def copy_repository(root, *corpora):
    """Lay out below a folder what the front door needs for the recipes of some corpora."""
    shutil.copytree(ROOT / "local", root / "local")
    for name in ("run.sh", "setup.py", "README.md"):
        shutil.copy(ROOT / name, root / name)
    (root / "espnet2_tfckd").symlink_to(ROOT / "espnet2_tfckd")
    for corpus in corpora:
        original, recipe = (top / "egs2" / corpus / "enh1" for top in (ROOT, root))
        shutil.copytree(original / "local", recipe / "local")
        for result in (*original.glob("results/teacher/*"), *original.glob("results/wide/*.json")):
            target = recipe / result.relative_to(original)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(result, target)
        for script in original.glob("*.sh"):
            shutil.copy(script, recipe)


def write_configs(folder, teacher, student):
    """YAMLs of tiny networks and of a distillation."""
    folder.mkdir(exist_ok=True)
    for name, content in (("teacher", teacher), ("student", student), ("distill", DISTILLATION)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


def write_recordings(root):
    """Two speakers a split with 7 s of syllable-like noise each, and one noise a split."""
    rng = np.random.default_rng(0)
    syllables = np.repeat(np.tile([1.0, 0.05, 0.6, 0.02], 70), RATE // 40)
    for number, split in enumerate(("train", "valid", "test")):
        for speaker in ("ann", "bob"):
            folder = root / "speech" / split / f"{speaker}{number}"
            folder.mkdir(parents=True)
            for take in range(2):
                speech = 0.1 * rng.standard_normal(len(syllables)) * syllables
                soundfile.write(folder / f"take{take}.wav", speech, RATE)
        (root / "noise" / split).mkdir(parents=True)
        hum = 0.1 * np.sin(np.arange(20 * RATE) * (0.05 + 0.02 * number))
        hum += 0.02 * rng.standard_normal(len(hum))
        soundfile.write(root / "noise" / split / "hum.wav", hum, RATE)


def run(folder, *command):
    """Run a command there with this Python, and return what became of it."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment())


def run_front_door(root, *options):
    """Run ./run.sh with one job at a time and two cheap metrics, and return what became of it."""
    jobs = ("--nj", "1", "--inference_nj", "1", "--scoring_protocol", "SI_SDR STOI")
    return run(root, "./run.sh", *jobs, *options)


def environment():
    python = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{python}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
