"""What a frame costs in the exported streaming networks of experiments, in turn, on one thread.

In the folder of the recipe, for students that differ in their options:

    PYTHONPATH=../../.. python -m tests.benchmarks.frames exp/enh_one exp/enh_other
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
from tqdm import tqdm

from espnet2_tfckd.deploy.onnx_enhance import ExportedModel
from espnet2_tfckd.models.configuration import CHECKPOINT
from espnet2_tfckd.stages.export import export_model
from tests.benchmarks.measuring import median_ratio

WARM_UP_FRAMES = 50


def frame_seconds(network: ExportedModel, spectra: np.ndarray) -> float:
    """Median time of a frame, spectrum to spectrum; (N, T, M, F) holds N signals of one frame."""
    network.reset()
    times = []
    for spectrum in spectra:
        start = perf_counter()
        network.step(spectrum)
        times.append(perf_counter() - start)
    return statistics.median(times[WARM_UP_FRAMES:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+", type=Path, help="causal; the first is compared")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--frames", type=int, default=200, help="of each network in a round")
    args = parser.parse_args()
    generator = np.random.default_rng(0)
    networks, nodes, spectra = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, exp_dir in enumerate(args.experiments):
            target = Path(folder) / str(number)
            export_model(exp_dir, CHECKPOINT, target)
            network = ExportedModel(target)
            if not network.streaming:
                raise ValueError(f"{exp_dir} holds no causal network: train one with causal: true")
            networks.append(network)
            nodes.append(len(onnx.load(str(target / "streaming.onnx")).graph.node))
            meta = network.meta
            shape = (args.frames + WARM_UP_FRAMES, 1, meta["microphones"], meta["n_fft"] // 2 + 1)
            parts = generator.standard_normal((2, *shape))
            spectra.append(parts[0] + 1j * parts[1])
    seconds: list[list[float]] = [[] for _ in networks]
    for _ in tqdm(range(args.rounds), "rounds"):
        for times, network, spectrum in zip(seconds, networks, spectra, strict=True):
            times.append(frame_seconds(network, spectrum))
    print("| experiment | parameters | nodes | frame ms | of the first's | real-time factor |")
    print("| --- | --- | --- | --- | --- | --- |")
    for exp_dir, network, count, times in zip(
        args.experiments, networks, nodes, seconds, strict=True
    ):
        frame, meta = statistics.median(times), network.meta
        print(
            f"| {exp_dir} | {meta['num_params']} | {count} | {1000 * frame:.3f} | "
            f"{median_ratio(times, seconds[0]):.2f} | "
            f"{frame * meta['sample_rate'] / meta['hop_length']:.4f} |"
        )


if __name__ == "__main__":
    main()
