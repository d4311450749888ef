"""A description of a model, in the words and units by which users compare models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet2_tfckd.cli import read_json
from espnet2_tfckd.deploy.enhancer import OnnxEnhancer, load_enhancer, model_folder


def describe(model: str) -> dict[str, str]:
    """Describe a model.

    Args:
        model: As for :func:`load_enhancer`.

    Returns:
        Values with their units, by name. They include real-time factor and multiply-accumulates if
        the model was measured (stage 8), and scores if it was scored (stage 9).

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
        "sampling rate": str(enhancer.rate),
        "microphones": str(enhancer.microphones),
        "causal": "yes" if enhancer.causal else "no",
        "algorithmic latency": f"{1000 * enhancer.n_fft / enhancer.sample_rate:g} ms"
        if enhancer.causal
        else "the whole signal",
    }
    return rows | _measured(folder / "profile.json") | _scores(folder)


def _measured(path: Path) -> dict[str, str]:
    profile = read_json(path, default=None)
    if profile is None:
        return {}
    with _complete(path):
        return {
            "MMAC/s": f"{profile['macs_per_second'] / 1e6:.1f}",
            "real-time factor": f"{profile['rtf']:.3f} on one thread, {profile['device']}",
        }


def _scores(folder: Path) -> dict[str, str]:
    rows, path = {}, folder.parent / "results.json"
    with _complete(path):
        for row in read_json(path, default=[]):
            if row["system"] == folder.name.removeprefix("enh_"):
                keys = ("pesq_wb", "estoi", "si_sdr", "dnsmos_ovrl")
                scores = [f"{key} {row[key]:.3f}" for key in keys if row.get(key) is not None]
                rows[f"scores, {row['dataset']}"] = ", ".join(scores)
    return rows


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} lacks what it should hold ({error}): delete it") from error
