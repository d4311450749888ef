"""Where the losses of I2SRF-TFCKD pull a student: the angles between gradients.

For every pair of a student's and a teacher's layer of the same set, the cosine between the gradient
of their divergence and that of the enhancement loss, over the separator's weights, on validation
mixtures; and the same for matching the teacher's waveform. Run it in a recipe's directory::

    python -m tests.benchmarks.gradients --teacher_exp results/teacher \\
        --student_exp exp/experiment/none/seed1 --data_dir dump/experiment/raw/valid
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import read_entry
from espnet2_tfckd.distiller.abs_distiller import FEATURE_SETS
from espnet2_tfckd.distiller.similarity import layer_similarities, symmetric_divergence
from espnet2_tfckd.models.checkpoint import load_enhancement_model
from espnet2_tfckd.models.configuration import CHECKPOINT
from espnet2_tfckd.models.inference import model_files
from espnet2_tfckd.training.model import with_features

SAMPLES, BATCH = 16000, 8


def batches(data_dir: Path, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Mixtures and references, each (8, 16000), from places drawn with one seed."""
    data, rng = read_data_dir(data_dir), np.random.default_rng(0)
    chunks: list[tuple[np.ndarray, np.ndarray]] = []
    while len(chunks) < count * BATCH:
        utterance = rng.choice(list(data.mixture))
        pair = [read_entry(of[utterance])[0][:, 0] for of in (data.mixture, data.reference)]
        if len(pair[0]) >= SAMPLES:
            start = rng.integers(len(pair[0]) - SAMPLES + 1)
            chunks.append(tuple(x[start : start + SAMPLES] for x in pair))
    stacked = (torch.from_numpy(np.stack(side)).float() for side in zip(*chunks, strict=True))
    return list(zip(*(side.split(BATCH) for side in stacked), strict=True))


def losses(student, teacher, mixture, reference) -> dict[str, torch.Tensor]:
    """The enhancement loss, that of the waveforms, and that of each pair of layers."""
    lengths = torch.full((len(mixture),), mixture.shape[1])
    inputs = (mixture, lengths)
    _, own = with_features(student.forward_enhance, student.separator, None, *inputs)
    with torch.no_grad():
        _, its = with_features(teacher.forward_enhance, teacher.separator, None, *inputs)
    found = {
        "enhancement": negative_snr(own.waveform, reference),
        "response": negative_snr(own.waveform, its.waveform),
    }
    for name in FEATURE_SETS:
        layers = [[layer_similarities(x) for x in side.feature_sets[name]] for side in (own, its)]
        for i, of_student in enumerate(layers[0]):
            for j, of_teacher in enumerate(layers[1]):
                found[f"{name}: {i} from {j}"] = divergence(of_student, of_teacher)
    return found


def negative_snr(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    error = (target - estimate).square().sum(1)
    return -10 * torch.log10(target.square().sum(1) / error).mean()


def divergence(student: dict, teacher: dict) -> torch.Tensor:
    """That of both streams, summed over frames, without calibration."""
    pairs = [(student[stream].probability, teacher[stream].probability) for stream in student]
    return sum(symmetric_divergence(p.log(), q.log(), p, q).sum(1).mean() for p, q in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student_exp", type=Path, required=True, help="a trained student")
    parser.add_argument("--teacher_exp", type=Path, required=True, help="its teacher")
    parser.add_argument("--data_dir", type=Path, required=True, help="validation set")
    parser.add_argument("--batches", type=int, default=4, help="batches of 8 chunks of 1 s")
    args = parser.parse_args()
    student, teacher = (
        load_enhancement_model(*model_files(exp_dir, CHECKPOINT)).eval()
        for exp_dir in (args.student_exp, args.teacher_exp)
    )
    student.requires_grad_(True)
    weights = list(student.separator.parameters())
    gradients: dict[str, torch.Tensor | float] = {}
    for batch in batches(args.data_dir, args.batches):
        for name, loss in losses(student, teacher, *batch).items():
            parts = torch.autograd.grad(
                loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            gradients[name] = gradients.get(name, 0.0) + torch.cat([x.flatten() for x in parts])
    own = gradients.pop("enhancement")
    print("| loss | length of the gradient, enhancement = 1 | cosine |\n| --- | --- | --- |")
    for name, gradient in gradients.items():
        ratio = float(gradient.norm() / own.norm())
        print(f"| {name} | {ratio:.3f} | {torch.cosine_similarity(gradient, own, 0):+.2f} |")


if __name__ == "__main__":
    main()
