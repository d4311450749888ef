"""Writing a trained DPDCRN as ONNX files, with a description that a runtime needs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from espnet2_tfckd.cli import atomic_write, read_json
from espnet2_tfckd.deploy import onnx_enhance
from espnet2_tfckd.deploy.exported import stamp
from espnet2_tfckd.deploy.onnx_streaming import StreamingNetwork, masked
from espnet2_tfckd.models.configuration import Rate
from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator
from espnet2_tfckd.separator.stream import Stream

if TYPE_CHECKING:
    from espnet2.enh.espnet_model import ESPnetEnhancementModel

OPSET = 17
FILES = ("offline.onnx", "streaming.onnx", "enhance.py")
TOLERANCE = 1e-4  # largest difference between torch and onnxruntime that an export may have
_CHECKED_FRAMES = 100


class OfflineNetwork(nn.Module):
    """From a mixture's spectrum to the estimate's, in real numbers, as ONNX needs them.

    Shape:
        (B, 2M, T, F), real parts of all channels, then imaginary parts, to (B, 2, T, F).
    """

    def __init__(self, separator: DPDCRNSeparator):
        super().__init__()
        self.separator = separator

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        microphones, channel = self.separator.microphones, self.separator.ref_channel
        _, _, decoder = self.separator.layers(mixture, Stream(), all_blocks=False)
        spectrum = mixture[:, [channel, microphones + channel]]
        return masked(spectrum, decoder[-1])


def export_onnx(
    model: ESPnetEnhancementModel, folder: str | Path, rate: Rate, notes: dict | None = None
) -> dict:
    """Write a model as ONNX and check it against torch.

    The folder holds ``offline.onnx`` (any number of frames), of a causal network also
    ``streaming.onnx`` (one frame, states in and out), ``meta.json`` (rate, STFT, shapes, latency)
    and ``enhance.py``, which enhances a file with numpy, soundfile and onnxruntime alone.

    Args:
        model: The enhancement model: STFT, DPDCRN, STFT.
        folder: Where to write. An earlier export in it is replaced; other files are left alone.
        rate: Sampling rate of the model.
        notes: More entries for ``meta.json``: licence, training configuration.

    Returns:
        What ``meta.json`` says.

    Raises:
        ValueError: If the network is not a DPDCRN on an STFT that the example knows, or the folder
            holds other files under the names that an export needs.
        RuntimeError: If onnxruntime's results differ from torch's by more than 1e-4; an earlier
            export then stays.
    """
    _check_exportable(model)
    earlier = _earlier_files(Path(folder))
    separator, stft = model.eval().separator, model.encoder.stft
    bins = stft.n_fft // 2 + 1
    meta = {
        "sample_rate": rate.hz,
        **({} if rate.stated else {"sample_rate_assumed": True}),
        "n_fft": stft.n_fft,
        "hop_length": stft.hop_length,
        "window": "hann",
        "microphones": separator.microphones,
        "ref_channel": separator.ref_channel,
        "num_params": sum(p.numel() for p in model.parameters()),
        "causal": separator.causal,
        # a sample leaves when the last frame that it is part of has been enhanced
        "latency_ms": 1000 * stft.n_fft / rate.hz if separator.causal else None,
        "models": {},
        **(notes or {}),
    }
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".onnx.", dir=Path(folder).parent) as temporary:
        _write_networks(separator, bins, meta, Path(temporary))
        shutil.copyfile(onnx_enhance.__file__, Path(temporary) / "enhance.py")
        text = json.dumps(meta, indent=2) + "\n"
        (Path(temporary) / "meta.json").write_text(text, encoding="utf-8")
        Path(folder).mkdir(exist_ok=True)
        for path in earlier:
            path.unlink(missing_ok=True)
        for name in ("meta.json", *FILES):  # by which the folder is known as an export's
            if (Path(temporary) / name).exists():
                os.replace(Path(temporary) / name, Path(folder) / name)
    return meta


def _earlier_files(folder: Path) -> list[Path]:
    """Networks that an earlier export left; first check that no other file is replaced."""
    try:
        meta = read_json(folder / "meta.json", default=None)
        is_export = {"n_fft", "models"} <= meta.keys()
    except (ValueError, AttributeError):
        is_export = False
    there = [name for name in ("meta.json", *FILES) if (folder / name).exists()]
    if there and not is_export:
        raise ValueError(
            f"{folder} holds a file {there[0]} that is of no export: name another --folder, or "
            "move it away"
        )
    networks = [folder / name for name in FILES if name.endswith(".onnx")]
    return networks if is_export else []


@torch.no_grad()
def _write_networks(separator: DPDCRNSeparator, bins: int, meta: dict, folder: Path) -> None:
    """Write the networks, and enter them into ``meta``."""
    generator = torch.Generator().manual_seed(0)
    shape = [1, 2 * separator.microphones, "frames", bins]
    mixture = torch.randn(1, shape[1], _CHECKED_FRAMES, bins, generator=generator)
    offline, path = OfflineNetwork(separator), folder / "offline.onnx"
    write_network(offline, path, {"mixture": mixture}, ["estimate"], meta, {2: "frames"})
    network = _session(path)
    differences = [  # of other lengths than the one that was traced, too
        _difference(offline(x), network.run(None, {"mixture": x.numpy()})[0])
        for x in (mixture, torch.cat([mixture] * 2, 2), mixture[:, :, :1])
    ]
    meta["models"]["offline"] = {
        "file": path.name,
        "input": {"name": "mixture", "shape": shape},
        "max_difference": _small_enough(max(differences), path),
    }
    if not separator.causal:
        return
    streaming, path = StreamingNetwork(separator, bins).eval(), folder / "streaming.onnx"
    zeros = {name: torch.zeros(shape) for name, shape in streaming.inputs.items()}
    write_network(streaming, path, zeros, streaming.outputs, meta)
    model = {"file": path.name, **streaming.description()}
    network = onnx_enhance.FrameByFrame(_session(path), model)
    states, differences = None, []
    for x in mixture.split(1, 2):
        frame = torch.complex(*x.chunk(2, 1)).transpose(1, 2)
        (expected,), states, _ = separator.forward_streaming(frame, states)
        expected = torch.view_as_real(expected).movedim(3, 1)
        differences.append(_difference(expected, network(x.numpy())))
    model["max_difference"] = _small_enough(max(differences), path)
    meta["models"]["streaming"] = model


def _check_exportable(model: ESPnetEnhancementModel) -> None:
    if not isinstance(model.separator, DPDCRNSeparator):
        name = type(model.separator).__name__
        raise ValueError(f"only DPDCRN can be exported to ONNX, and this model's is a {name}")
    if not has_plain_stft(model):
        raise ValueError(
            "only models on a centred STFT with a Hann window as long as n_fft, without "
            "spec_transform_type and without model_conf.normalize_variance, can be exported to ONNX"
        )


def has_plain_stft(model: ESPnetEnhancementModel) -> bool:
    """Whether the network gets the mixture's spectrum from an STFT that we know outside ESPnet."""
    stft = getattr(model.encoder, "stft", None)
    changes = ("normalize_variance", "normalize_variance_per_ch", "always_forward_in_48k")
    return stft is not None and (
        not any(getattr(model, option, False) for option in changes)
        and stft.win_length in (None, stft.n_fft)
        and stft.window == "hann"
        and stft.center
        and not stft.normalized
        and stft.onesided
        and getattr(model.encoder, "spec_transform_type", None) in (None, "none")
    )


def write_network(
    network: nn.Module,
    path: Path,
    inputs: dict[str, torch.Tensor],
    outputs: list[str],
    meta: dict,
    dynamic: dict[int, str] | None = None,
) -> None:
    network.eval()  # torch.onnx.export leaves all modules in the mode of the outermost one
    with atomic_write(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about sizes that do not change
            # Tracing keeps a GRU whole; torch.export would unroll it into steps.
            torch.onnx.export(
                network,
                tuple(inputs.values()),
                str(temporary),
                input_names=list(inputs),
                output_names=outputs,
                dynamic_axes=dynamic and {name: dynamic for name in (*inputs, *outputs)},
                opset_version=OPSET,
                dynamo=False,
            )
        stamp(temporary, meta)


def _session(path: Path):
    import onnxruntime

    options = onnx_enhance.session_options()
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def _difference(expected: torch.Tensor, found: np.ndarray) -> float:
    return float(np.abs(expected.numpy() - found).max())


def _small_enough(difference: float, path: Path) -> float:
    if not difference < TOLERANCE:
        raise RuntimeError(
            f"{path.name}: onnxruntime differs from torch by {difference:.2g} (allowed: "
            f"{TOLERANCE:g}); nothing was written"
        )
    return difference
