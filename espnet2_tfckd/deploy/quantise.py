"""Exported networks with weights of 8 bits, and their cost in quality and time."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.data.datadir import DataDir, read_data_dir
from espnet2_tfckd.data.entries import read_channel, read_entry
from espnet2_tfckd.deploy.exported import read_export, stamp
from espnet2_tfckd.deploy.onnx_enhance import ExportedModel
from espnet2_tfckd.scoring.metrics import pesq_wb, si_sdr

NUM_UTTERANCES = 24
SUFFIX = ".int8.onnx"
_QUANTISED = ["Conv", "MatMul"]  # onnxruntime has no GRU or transposed convolution of 8 bits
_METRICS = {"si_sdr": si_sdr, "pesq_wb": pesq_wb}


def quantise_export(
    folder: str | Path, data_dir: str | Path, num_utterances: int = NUM_UTTERANCES
) -> dict:
    """Add to every network of an export one with weights of 8 bits, and measure the loss.

    Weights of convolutions and matrix products become integers once. Their inputs become integers
    whenever they run, by their range at that moment (dynamic quantisation), so nothing needs to be
    calibrated. The range is taken over a frame in the streaming network and over all frames in the
    offline one. So the streaming network stays closer to its original.

    ``meta.json`` then has an entry ``int8`` for each network: ``file``, ``bytes`` and
    ``float_bytes``; ``si_sdr_change`` in dB and ``pesq_wb_change``, means of int8 minus float over
    ``num_utterances`` utterances of ``data_dir``; ``si_sdr_to_float``, SI-SDR of the int8 estimate
    with the float one as reference; ``time_ratio``, processor time of int8 over that of float.

    Args:
        folder: Folder of :func:`espnet2_tfckd.deploy.onnx_export.export_onnx`.
        data_dir: Data directory to measure on, at the model's rate.
        num_utterances: How many of its utterances to take, spread over all.

    Returns:
        What ``meta.json`` says now.

    Raises:
        FileNotFoundError: If the export or the data directory is not there.
        ValueError: If the export is damaged, the data has another rate or number of channels than
            the model, or none of it can be scored.
    """
    folder = Path(folder)
    meta = read_export(folder)
    pairs = _read_pairs(read_data_dir(data_dir), num_utterances, meta)
    for model in meta["models"].values():
        source = folder / model["file"]
        target = source.with_name(source.stem + SUFFIX)
        quantise(source, target, meta)
        model["int8"] = {
            "file": target.name,
            "bytes": target.stat().st_size,
            "float_bytes": source.stat().st_size,
        }
    with atomic_write(folder / "meta.json") as file:  # which the networks are run by
        file.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    for name, model in meta["models"].items():
        model["int8"] |= measure_loss(folder, name == "offline", pairs, meta["sample_rate"])
        model["int8"]["data_dir"] = str(data_dir)
    with atomic_write(folder / "meta.json") as file:
        file.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return meta


def quantise(source: Path, target: Path, meta: dict) -> None:
    """Write a network whose convolutions and matrix products have 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as temporary, _quiet(), atomic_write(target) as partial:
        # weights that the network derives from its parameters become constants first
        folded = Path(temporary) / "folded.onnx"
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        quantize_dynamic(
            str(folded),
            str(partial),
            op_types_to_quantize=_QUANTISED,
            weight_type=QuantType.QUInt8,  # onnxruntime convolves no others
        )
        stamp(partial, meta)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress onnxruntime's advice to prepare a network, because the network is prepared."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _read_pairs(data: DataDir, most: int, meta: dict) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mixtures (N, M) and references (N,) of utterances spread over the data."""
    utterances = list(data.mixture)
    chosen = np.linspace(0, len(utterances) - 1, min(most, len(utterances))).round().astype(int)
    pairs = []
    for utterance in (utterances[n] for n in chosen):
        mixture, rate = read_entry(data.mixture[utterance])
        if (rate, mixture.shape[1]) != (meta["sample_rate"], meta["microphones"]):
            raise ValueError(
                f"{data.mixture[utterance]}: {rate} Hz and {mixture.shape[1]} channel(s), the "
                f"model takes {meta['sample_rate']} Hz and {meta['microphones']}"
            )
        pairs.append((mixture, read_channel(data.reference[utterance], meta["ref_channel"])[0]))
    return pairs


def measure_loss(
    folder: Path, offline: bool, pairs: list[tuple[np.ndarray, np.ndarray]], sample_rate: int
) -> dict:
    """Compare a network of 8 bits with its original.

    Args:
        folder: Folder of the export.
        offline: Compare the networks for whole signals rather than those for frames.
        pairs: Mixtures (N, M) and references (N,).
        sample_rate: In Hz.

    Returns:
        ``si_sdr_change``, ``pesq_wb_change``, ``si_sdr_to_float``, ``time_ratio`` and
        ``num_utterances``.

    Raises:
        ValueError: If a metric cannot score any utterance.
    """
    networks = {int8: ExportedModel(folder, offline, int8) for int8 in (False, True)}
    seconds = dict.fromkeys(networks, 0.0)
    changes, closeness = {metric: [] for metric in _METRICS}, []
    for mixture, reference in pairs:
        estimates = {}
        for int8, network in networks.items():
            start = time.process_time()
            estimates[int8] = network.enhance(mixture).astype(np.float64)
            seconds[int8] += time.process_time() - start
        closeness.append(si_sdr(estimates[False], estimates[True], sample_rate))
        for metric, compute in _METRICS.items():
            try:
                scores = {n: compute(reference, estimates[n], sample_rate) for n in estimates}
            except ValueError:
                continue  # silence; other utterances are left
            changes[metric].append(scores[True] - scores[False])
    for metric, values in changes.items():
        if not values:
            raise ValueError(f"{metric} can be computed of none of {len(pairs)} utterances")
    return {
        **{f"{metric}_change": float(np.mean(values)) for metric, values in changes.items()},
        "si_sdr_to_float": float(np.mean(closeness)),
        "num_utterances": len(pairs),
        "time_ratio": seconds[True] / seconds[False],
    }
