"""Our causal student as exported: onnxruntime, frame by frame, as the command enhances."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np

from espnet2_tfckd.deploy.onnx_enhance import ExportedModel
from espnet2_tfckd.deploy.streaming import enhanced_frames
from tests.benchmarks.peers.model import Model

STEADY_FRAMES = 200  # after which the attention of a frame looks back as far as it can


class ExportedStudent(Model):
    """The streaming model of a folder that :func:`export` has written."""

    delay, streams = 0, True  # the loop around the network starts half a window early
    network_seconds = 0.0

    def __init__(self, folder: str):
        self._enhancer = ExportedModel(folder)
        meta = self._enhancer.meta
        self.sample_rate, self.latency_ms = meta["sample_rate"], meta["latency_ms"]

    def reset(self) -> None:
        self._enhancer.reset()

    def stream(self, mixture: np.ndarray) -> Iterator[np.ndarray]:
        enhancer, hop = self._enhancer, self._enhancer.meta["hop_length"]
        blocks = (mixture[start : start + hop, None] for start in range(0, len(mixture), hop))
        yield from enhanced_frames(blocks, 1, self._step, enhancer.meta["n_fft"], hop, 1)

    def _step(self, spectrum: np.ndarray) -> np.ndarray:
        start = perf_counter()
        estimate = self._enhancer.step(spectrum)
        self.network_seconds += perf_counter() - start
        return estimate

    def costs(self) -> dict[str, int]:
        return {name: self._enhancer.meta[name] for name in ("num_params", "macs_per_second")}


def export(folder: str | Path, channels: int, heads: int, exp_dir: str | Path | None) -> None:
    """Write a causal student as ONNX, with its multiply-accumulates in ``meta.json``.

    Args:
        folder: Where to write.
        channels: Of an untrained student.
        heads: Of an untrained student.
        exp_dir: Experiment of a trained student instead.

    Raises:
        FileNotFoundError: The experiment has no configuration or no checkpoint.
        ValueError: Its network is not causal, or no DPDCRN.
    """
    from espnet2_tfckd.deploy.enhancer import CHECKPOINT
    from espnet2_tfckd.deploy.onnx_export import export_onnx
    from espnet2_tfckd.models.configuration import Rate, model_rate
    from espnet2_tfckd.models.inference import load_separate_speech
    from tests.benchmarks.measuring import untrained_student

    if exp_dir is None:
        model, rate = untrained_student(channels, heads), Rate(16000, stated=True)
    else:
        loaded = load_separate_speech(exp_dir, CHECKPOINT)
        model, rate = loaded.enh_model, model_rate(vars(loaded.enh_train_args))
        if not getattr(model.separator, "causal", False):
            raise ValueError(f"{exp_dir} holds no causal DPDCRN: train one with causal: true")
    export_onnx(model, folder, rate, {"macs_per_second": _macs(model, rate.hz)})


def _macs(model, sample_rate: int) -> int:
    import torch

    from espnet2_tfckd.models.cost import count_macs

    separator, stft = model.eval().separator, model.encoder.stft
    frame = torch.randn(1, 1, separator.microphones, stft.n_fft // 2 + 1, dtype=torch.complex64)
    states = None
    with torch.inference_mode():
        for _ in range(STEADY_FRAMES):
            _, states, _ = separator.forward_streaming(frame, states)
    macs = count_macs(lambda: separator.forward_streaming(frame, states))
    return round(macs * sample_rate / stft.hop_length)


def main() -> None:
    """Export from the command line, so that measuring needs neither torch nor ESPnet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="where to write")
    parser.add_argument("--channels", type=int, default=64, help="of an untrained student")
    parser.add_argument("--heads", type=int, default=4, help="of an untrained student")
    parser.add_argument("--exp_dir", help="experiment of a trained student instead")
    args = parser.parse_args()
    export(args.folder, args.channels, args.heads, args.exp_dir)


if __name__ == "__main__":
    main()
