"""Small ONNX files made by hand, and running them without our engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as runtime

import onnx
from zoo.export.packing import pack_weights


def plain_run(data: bytes, inputs: np.ndarray) -> np.ndarray:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


def quantizing_model(**changes: object) -> object:
    """input -> Q -> DQ -> MatMul with an int8 weight -> output, as an onnx.ModelProto."""
    helper, numpy = onnx.helper, onnx.numpy_helper
    weight = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["values"]),
        helper.make_node("DequantizeLinear", ["weight", "scale"], ["floats"]),
        helper.make_node("MatMul", ["values", "floats"], ["output"]),
    ]
    initializers = [
        numpy.from_array(np.float32(0.05), "scale"),
        numpy.from_array(changes.get("zero", np.int8(0)), "zero"),
        numpy.from_array(weight, "weight"),
    ]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 4]) for n in ("input", "output")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def model_of(*weights: np.ndarray, packed: bool = True) -> Any:
    """input -> a chain of 1 x 1 convolutions with these int8 weights, (out, in, 1, 1) each."""
    helper, numpy = onnx.helper, onnx.numpy_helper
    nodes, tensors, value = [], [], "input"
    for number, weight in enumerate(weights):
        name, result = f"layer{number}", "output" if number + 1 == len(weights) else f"value{number}"
        tensors += [
            numpy.from_array(weight.astype(np.int8), f"{name}.weight"),
            numpy.from_array(np.linspace(0.5, 1, len(weight), dtype=np.float32), f"{name}.scale"),
            numpy.from_array(np.zeros(len(weight), np.int8), f"{name}.zero"),
        ]
        inputs = [f"{name}.weight", f"{name}.scale", f"{name}.zero"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.float"], f"{name}.dq", axis=0))
        nodes.append(helper.make_node("Conv", [value, f"{name}.float"], [result], name))
        value = result
    ends = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", len_, "h", "w"])
        for n, len_ in (("input", weights[0].shape[1]), ("output", len(weights[-1])))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    if packed:
        pack_weights(graph)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def levels(lowest: int, highest: int, outputs: int, inputs: int, seed: int = 0) -> np.ndarray:
    """Random levels of which the outermost two are among them."""
    weight = np.random.default_rng(seed).integers(lowest, highest + 1, (outputs, inputs, 1, 1))
    weight.flat[0], weight.flat[1] = lowest, highest
    return weight
