"""Installs espnet2_tfckd: pip install -c constraints.txt ."""

import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
version = re.search(
    r'__version__ = "(.+)"', (root / "espnet2_tfckd" / "__init__.py").read_text(encoding="utf-8")
)[1]

# What we import, and what ESPnet's enhancement task imports but ESPnet does not declare.
requirements = [
    "av",
    "ci_sdr",
    "editdistance",
    "einops",
    "espnet==202511",
    "espnet_model_zoo",
    "fast_bss_eval",
    "filelock",
    "huggingface_hub",
    "jinja2",
    "kaldiio",
    "matplotlib",
    "mir_eval",
    "numpy>=2,<2.4",  # 2.4 breaks ESPnet's chunk iterator
    "onnx",
    "onnxruntime",
    "pesq",
    "pillow",
    "pystoi",
    "pyyaml",
    "scipy",
    "soundfile",
    "soxr",
    "speechmos",
    "tensorboard",
    "torch",
    "torchaudio",
    "tqdm",
]
asr = ["transformers"]
demo = ["gradio"]
test = ["pocketsphinx", "pyroomacoustics", "pytest", "selenium"]

setup(
    name="espnet2_tfckd",
    version=version,
    description="Distillation of speech-enhancement models for ESPnet2",
    long_description=__doc__,
    author="espnet2-tfckd developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["espnet2_tfckd", "espnet2_tfckd.*"]),
    package_data={"espnet2_tfckd": ["scoring/report_template/*"]},
    install_requires=requirements,
    entry_points={"console_scripts": ["espnet2-tfckd = espnet2_tfckd.deploy.command:main"]},
    extras_require={"asr": asr, "demo": demo, "test": test, "dev": [*test, "ruff"]},
)
