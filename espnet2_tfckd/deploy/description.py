"""What a model is, in the words and units that users compare by."""

from __future__ import annotations

import json
from pathlib import Path

from espnet2_tfckd.deploy.enhancer import OnnxEnhancer, load_enhancer, model_folder


def describe(model: str) -> dict[str, str]:
    """Describe a model.

    Args:
        model: As for :func:`load_enhancer`.

    Returns:
        Values with their units, by name. Real-time factor and multiply-accumulates are there if
        the model was measured (stage 8, or ``python -m espnet2_tfckd.stages.profile``), scores if
        it was scored (stage 9).

    Raises:
        As :func:`load_enhancer`.
    """
    folder = model_folder(model)
    enhancer = load_enhancer(str(folder))
    rows = {"model": str(folder)}
    if isinstance(enhancer, OnnxEnhancer):
        rows |= {"form": f"ONNX ({', '.join(enhancer.meta['models'])})"}
        parameters = enhancer.meta["num_params"]
    else:
        rows |= {"form": f"ESPnet, separator {type(enhancer.model.separator).__name__}"}
        parameters = sum(p.numel() for p in enhancer.model.parameters())
    rows |= {
        "parameters": f"{parameters:,}",
        "sampling rate": f"{enhancer.sample_rate} Hz",
        "microphones": str(enhancer.microphones),
        "causal": "yes" if enhancer.causal else "no",
        "algorithmic latency": f"{1000 * enhancer.n_fft / enhancer.sample_rate:g} ms"
        if enhancer.causal
        else "the whole signal",
    }
    profile = _read(folder / "profile.json")
    if profile:
        rows["MMAC/s"] = f"{profile['macs_per_second'] / 1e6:.1f}"
        rows["real-time factor"] = f"{profile['rtf']:.3f} on one thread, {profile['device']}"
    for row in _read(folder.parent / "results.json") or []:
        if row["system"] == folder.name.removeprefix("enh_"):
            keys = ("pesq_wb", "estoi", "si_sdr", "dnsmos_ovrl")
            scores = [f"{key} {row[key]:.3f}" for key in keys if row.get(key) is not None]
            rows[f"scores, {row['dataset']}"] = ", ".join(scores)
    return rows


def _read(path: Path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
