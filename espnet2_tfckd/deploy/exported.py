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
        _check_file(Path(folder), model, f"{path}: {name}")
        if not _is_memory(model):
            raise ValueError(
                f"{path}: what {name} remembers has no name, shape or input: {_REMEDY}"
            )
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


def _is_memory(model: dict) -> bool:
    """Whether a network's inputs and memory are described as an export describes them."""
    try:
        inputs = _inputs_of(model)
        reads = [read for ring in model.get("history", []) for read in ring["reads"]]
        kept = model.get("attention", [])
        shaped = [*model.get("states", []), *model.get("history", []), *reads, *kept]
        return (
            all(isinstance(name, str) and _is_shape(shape) for name, shape in inputs.items())
            and all(isinstance(x["name"], str) and _is_shape(x["shape"]) for x in shaped)
            and all(state["name"] in inputs for state in model.get("states", []))
            and all(x["name"] in inputs and x["frames_ago"] in range(1, 1024) for x in reads)
            and all(x["input"] in inputs and x["axis"] in (1, 2) for x in kept)
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)


def _inputs_of(model: dict) -> dict[str, list[int]]:
    """Shapes of a network's inputs besides the mixture; in earlier exports these are states."""
    others = {state["name"]: state["shape"] for state in model.get("states", [])}
    return {name: x for name, x in model.get("inputs", others).items() if name != "mixture"}


def check_network(folder: str | Path, meta: dict, name: str) -> None:
    """Check that a network agrees with ``meta.json``, and that it runs.

    Args:
        folder: Folder of the export.
        meta: From :func:`read_export`.
        name: ``offline`` or ``streaming``.

    Raises:
        ValueError: If the network cannot be read, does not run, or ``meta.json`` contradicts it.
    """
    model = meta["models"][name]
    path = Path(folder) / model["file"]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is in the exception
    try:
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        stated = json.loads(session.get_modelmeta().custom_metadata_map.get(PROPERTY, "{}"))
    except Exception as error:  # onnxruntime raises kinds of its own
        raise ValueError(f"{path} is not an ONNX network ({_line(error)}): {_REMEDY}") from error
    bins = meta["n_fft"] // 2 + 1
    expected = {"mixture": [1, 2 * meta["microphones"], 1, bins]}
    expected |= _inputs_of(model)
    _compare(path, expected, {x.name: x.shape for x in session.get_inputs()})
    # the graph has no trace of the rate and the hop, which its properties repeat
    _compare(path, {key: meta[key] for key in FACTS if key in stated}, stated)
    feed = {key: np.zeros(shape, np.float32) for key, shape in expected.items()}
    try:
        estimate = session.run(None, feed)[0]
    except Exception as error:
        raise ValueError(f"{path} does not run ({_line(error)}): {_REMEDY}") from error
    outputs = {x.name: x.shape for x in session.get_outputs()}
    states = {f"next_{state['name']}": state["shape"] for state in model.get("states", [])}
    states |= {ring["name"]: ring["shape"] for ring in model.get("history", [])}
    kept = {entry["name"] for entry in model.get("attention", [])}
    right = states.items() <= outputs.items() and kept <= outputs.keys()
    if estimate.shape != (1, 2, 1, bins) or not right:
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
