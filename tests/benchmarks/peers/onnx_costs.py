"""Parameters and multiply-accumulates of an ONNX network, by running it."""

from __future__ import annotations

import math

import numpy as np

_WEIGHTED = {"Conv": 1, "ConvTranspose": 1, "MatMul": 1, "Einsum": 1, "GRU": 3}


def onnx_costs(content: bytes, frames: int) -> tuple[int, int]:
    """Count the weights and biases, and the multiply-accumulates for some frames.

    Counted are convolutions, matrix products, products by Einsum and GRUs, as
    :func:`espnet2_tfckd.models.cost.count_macs` counts those of PyTorch.

    Args:
        content: The file.
        frames: What every dimension becomes whose size the file leaves open.

    Returns:
        Number of parameters and of multiply-accumulates.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    nodes = [node for node in model.graph.node if node.op_type in _WEIGHTED]
    # of the inputs of a GRU the fifth counts lengths and the sixth is the state
    parameters = {name for node in nodes for name in list(node.input)[1:4] if name in constants}
    parameters |= {
        name
        for node in model.graph.node
        if node.op_type in ("Add", "PRelu", "BatchNormalization")
        for name in node.input
        if name in constants and constants[name].size > 1
    }
    shapes = _shapes(model, nodes, frames)
    shapes |= {name: array.shape for name, array in constants.items()}
    macs = sum(_macs(node, shapes) for node in nodes)
    return sum(constants[name].size for name in parameters), macs


def _shapes(model, nodes, frames: int) -> dict[str, tuple[int, ...]]:
    """Shapes of what goes into and comes out of nodes."""
    import onnx
    import onnxruntime

    wanted = {node.output[0] for node in nodes} | {node.input[0] for node in nodes}
    inputs = {value.name for value in model.graph.input}
    known = {value.name for value in model.graph.output} | inputs
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted - known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    feed = {
        value.name: np.zeros([d if isinstance(d, int) else frames for d in value.shape], np.float32)
        for value in session.get_inputs()
    }
    names = [value.name for value in session.get_outputs()]
    arrays = dict(zip(names, session.run(None, feed), strict=True)) | feed
    return {name: arrays[name].shape for name in wanted}


def _macs(node, shapes: dict[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of a node."""
    data, weight, output = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    if node.op_type == "Conv":  # weight (out, in / groups, *kernel)
        return math.prod(output) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":  # weight (in, out / groups, *kernel)
        return math.prod(data) * math.prod(weight[1:])
    if node.op_type == "GRU":  # data (T, B, I), weights (1, 3H, I) and (1, 3H, H)
        return data[0] * data[1] * (math.prod(weight) + math.prod(shapes[node.input[2]]))
    return math.prod(data) * weight[-1]  # (..., I) by (..., I, O)
