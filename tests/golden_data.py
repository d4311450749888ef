"""Golden data: arrays computed with the method's reference, named in the files themselves.

They lie in ``tests/golden/`` or, where it is set, in ``$GOLDEN_DIR``. Tests infer every size from
the arrays, so other data in the same format can be put to them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parent / "golden"))


def golden_files(pattern: str) -> list[Path]:
    """Files that match, of which there must be one at least."""
    files = sorted(GOLDEN_DIR.glob(pattern))
    if not files:
        raise FileNotFoundError(f"no golden data {pattern} in {GOLDEN_DIR}")
    return files


def load_golden(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def numbered(arrays: dict[str, torch.Tensor], prefix: str) -> list[torch.Tensor]:
    """Arrays prefix0, prefix1, ... in order."""
    count = 0
    while f"{prefix}{count}" in arrays:
        count += 1
    return [arrays[f"{prefix}{n}"] for n in range(count)]


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference over the largest expected magnitude."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()
