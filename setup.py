"""Installs espnet2_tfckd: pip install -c local/constraints/3.12.txt ."""

import re
from pathlib import Path

import setuptools
from setuptools import find_packages, setup

root = Path(__file__).parent
version = re.search(
    r'__version__ = "(.+)"', (root / "espnet2_tfckd" / "__init__.py").read_text(encoding="utf-8")
)[1]


def package_page(readme: str) -> str:
    """The README without its relative links, which lead nowhere from a package's page."""
    elsewhere = r"\((?!https?://)[^)]*\)"
    readme = re.sub(rf"!\[([^]]*)\]{elsewhere}", r"(Picture: \1.)", readme)
    return re.sub(rf"\[([^]]*)\]{elsewhere}", r"\1", readme)


classifiers = [
    "Development Status :: 4 - Beta",
    "Intended Audience :: Developers",
    "Intended Audience :: Science/Research",
    "Operating System :: MacOS",
    "Operating System :: POSIX :: Linux",
    "Programming Language :: Python :: 3 :: Only",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Multimedia :: Sound/Audio :: Speech",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
]
# From setuptools 77 on, the licence is an expression, beside which no classifier may name it.
if int(setuptools.__version__.partition(".")[0]) >= 77:
    licence = {"license_expression": "Apache-2.0"}
else:
    licence = {"license": "Apache-2.0"}
    classifiers.append("License :: OSI Approved :: Apache Software License")

# What we import, and what ESPnet's enhancement task imports but ESPnet does not declare.
requirements = [
    "av",
    "editdistance",
    "einops",
    'espnet==202511; python_version < "3.12"',
    'espnet==202611; python_version >= "3.12"',
    "espnet_model_zoo",
    "fast_bss_eval",
    "filelock",
    "huggingface_hub",
    "jinja2",
    "kaldiio",
    "matplotlib",
    "mir_eval",
    'numpy>=2,<2.4; python_version < "3.12"',  # 2.4 breaks the chunk iterator of ESPnet 202511
    'numpy>=2; python_version >= "3.12"',
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
    # torch 2.13 needs newer setuptools than ESPnet 202511 allows
    'torch>=2.11,<2.13; python_version < "3.12"',
    'torch>=2.11,<2.15; python_version >= "3.12"',
    "torchaudio>=2.11,<2.12",
    "tqdm",
]
asr = ["transformers"]
ci_sdr = ["ci_sdr"]
demo = ["gradio"]
test = ["pocketsphinx", "pyroomacoustics", "pytest", "pytest-xdist", "selenium"]

setup(
    name="espnet2_tfckd",
    version=version,
    description="Distillation of speech-enhancement models for ESPnet2",
    long_description=package_page((root / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    author="espnet2-tfckd developers",
    project_urls={
        "Paper": "https://arxiv.org/abs/2506.13127",
        "ESPnet": "https://github.com/espnet/espnet",
    },
    classifiers=classifiers,
    keywords=[
        "speech enhancement",
        "noise suppression",
        "knowledge distillation",
        "ESPnet",
        "streaming",
        "ONNX",
    ],
    **licence,
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["espnet2_tfckd", "espnet2_tfckd.*"]),
    package_data={
        "espnet2_tfckd": [
            "*/README.md",
            "deploy/web/*",
            "pretrained/*.log",
            "pretrained/*.zip",
            "pretrained/*/*",
            "pretrained/samples/*/*",
            "scoring/report_template/*",
        ]
    },
    install_requires=requirements,
    entry_points={"console_scripts": ["espnet2-tfckd = espnet2_tfckd.deploy.command:main"]},
    extras_require={
        "asr": asr,
        "ci_sdr": ci_sdr,
        "demo": demo,
        "live": ["sounddevice"],
        "test": test,
        "dev": [*ci_sdr, *test, "pdoc", "ruff"],
    },
)
