"""Reading a folder of ONNX networks and checking that its files agree, before audio is enhanced."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime

from espnet2_tfckd.cli import read_json

FACTS = ("sample_rate", "n_fft", "hop_length", "microphones", "ref_channel")
PROPERTY = "espnet2_tfckd"  # of a network: the facts that it was exported with
_REMEDY = "export the model again, or fetch the folder again"


def read_export(folder: str | Path) -> dict:
    """Read ``meta.json`` of an export.

    Returns:
        Its contents, complete with rate, STFT and networks; the networks' files are in the folder.

    Raises:
        FileNotFoundError: If ``meta.json`` is not there.
        ValueError: If it is damaged or not as stage 12 writes it; the message names the entry.
    """
    path = Path(folder) / "meta.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: export the model first")
    meta = read_json(path, remedy=_REMEDY)
    if not isinstance(meta, dict):
        raise ValueError(f"{path} holds no description of an export: {_REMEDY}")
    for name in (*FACTS, "num_params"):
        least = 0 if name == "ref_channel" else 1
        if type(meta.get(name)) is not int or not least <= meta[name] < 2**40:
            raise ValueError(f"{path}: {name} is {meta.get(name)!r}, not a number: {_REMEDY}")
    if meta["hop_length"] > meta["n_fft"] or meta["ref_channel"] >= meta["microphones"]:
        raise ValueError(f"{path}: hop_length or ref_channel is too large: {_REMEDY}")
    models = meta.get("models")
    if not (isinstance(models, dict) and models and models.keys() <= {"offline", "streaming"}):
        raise ValueError(f"{path} names no networks: {_REMEDY}")
    for name, model in models.items():
        for network in (model, *([model["int8"]] if "int8" in model else [])):
            _check_file(Path(folder), network, f"{path}: {name}")
        if not all(_is_state(state) for state in model.get("states", [])):
            raise ValueError(f"{path}: {name} has states without name or shape: {_REMEDY}")
    return meta


def _check_file(folder: Path, network: object, entry: str) -> None:
    """Refuse a file outside the folder, whatever ``meta.json`` says."""
    name = network.get("file") if isinstance(network, dict) else None
    if not isinstance(name, str) or not name.endswith(".onnx"):
        raise ValueError(f"{entry} names no ONNX file: {_REMEDY}")
    if Path(name).name != name or "\\" in name:
        raise ValueError(f"{entry} names {name!r}, which is not in the folder: {_REMEDY}")
    if not (folder / name).is_file():
        raise FileNotFoundError(f"{folder / name} is not there: {_REMEDY}")


def _is_state(state: object) -> bool:
    return (
        isinstance(state, dict)
        and isinstance(state.get("name"), str)
        and isinstance(state.get("shape"), list)
        and all(type(size) is int and size > 0 for size in state["shape"])
    )


def check_network(folder: str | Path, meta: dict, name: str, int8: bool = False) -> None:
    """Check that a network agrees with ``meta.json``, and that it runs.

    Args:
        folder: Folder of the export.
        meta: From :func:`read_export`.
        name: ``offline`` or ``streaming``.
        int8: Check the network with weights of 8 bits.

    Raises:
        ValueError: If the network cannot be read, does not run, or ``meta.json`` contradicts it.
    """
    model = meta["models"][name]
    path = Path(folder) / (model["int8"]["file"] if int8 else model["file"])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is in the exception
    try:
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        stated = json.loads(session.get_modelmeta().custom_metadata_map.get(PROPERTY, "{}"))
    except Exception as error:  # onnxruntime raises kinds of its own
        raise ValueError(f"{path} is not an ONNX network ({_line(error)}): {_REMEDY}") from error
    bins = meta["n_fft"] // 2 + 1
    expected = {"mixture": [1, 2 * meta["microphones"], 1, bins]}
    expected |= {state["name"]: state["shape"] for state in model.get("states", [])}
    _compare(path, expected, {x.name: x.shape for x in session.get_inputs()})
    # the graph has no trace of the rate and the hop, which its properties repeat
    _compare(path, {key: meta[key] for key in FACTS if key in stated}, stated)
    feed = {key: np.zeros(shape, np.float32) for key, shape in expected.items()}
    try:
        estimate, *states = session.run(None, feed)
    except Exception as error:
        raise ValueError(f"{path} does not run ({_line(error)}): {_REMEDY}") from error
    if estimate.shape != (1, 2, 1, bins) or len(states) != len(expected) - 1:
        raise ValueError(f"{path} gives no estimate as the folder's meta.json has it: {_REMEDY}")


def _compare(path: Path, by_meta: dict, by_network: dict) -> None:
    for name in {**by_meta, **by_network}:
        ours, theirs = by_meta.get(name), by_network.get(name)
        if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
            theirs = [o if isinstance(t, str) else t for o, t in zip(ours, theirs, strict=True)]
        if ours != theirs:
            raise ValueError(
                f"{path.with_name('meta.json')} does not fit {path.name} ({name}: {ours}, in the "
                f"network {theirs}): {_REMEDY}"
            )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def stamp(path: str | Path, meta: dict) -> None:
    """Write into a network the facts of ``meta.json`` that its graph does not show."""
    import onnx

    network = onnx.load(str(path))
    facts = json.dumps({name: meta[name] for name in FACTS})
    onnx.helper.set_model_props(network, {PROPERTY: facts})
    onnx.save(network, str(path))
