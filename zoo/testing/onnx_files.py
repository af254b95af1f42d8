"""Small ONNX files to try engines on, made without the onnx package, and what they must compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zoo.contracts import InputSpec
from zoo.onnx import fields
from zoo.onnx.encoding import encode_model, encode_node, encode_opset, encode_tensor
from zoo.onnx.fields import FLOAT
from zoo.onnx.graph import ValueInfo
from zoo.onnx.protobuf import Reader, encode_bytes, encode_number

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray

#: What the network takes: sides of any size.
INPUT = InputSpec("rgb", 3, example=(32, 32))
_SLOPE = 0.2
_OPSET = 17


def network(*, operator: str = "LeakyRelu", domain: str = "", outside: str = "") -> bytes:
    """Return a model: 3 x 3 convolution, LeakyRelu, 1 x 1 convolution, Sigmoid; (N, 3, H, W) to (N, 2, H, W).

    Args:
        operator: What stands in the place of LeakyRelu.
        domain: The domain of that operator, "" for the standard one.
        outside: A file that the weights of the first convolution lie in, "" for the model itself.
    """
    first, bias, second = _weights()
    graph = encode_node("Conv", ["input", "first", "bias"], "a", pads=[1, 1, 1, 1])
    graph += _with_domain(encode_node(operator, ["a"], "b", alpha=_SLOPE), domain)
    graph += encode_node("Conv", ["b", "second"], "c") + encode_node("Sigmoid", ["c"], "output")
    tensors = {"first": first, "bias": bias, "second": second}
    for name, tensor in tensors.items():
        if name == "first" and outside:
            graph += _outside(name, tensor.shape, outside)
        else:
            graph += encode_tensor(name, FLOAT, tensor.shape, tensor.astype("<f4").tobytes())
    inputs = ValueInfo("input", FLOAT, [None, INPUT.channels, None, None])
    outputs = ValueInfo("output", FLOAT, [None, len(second), None, None])
    model = encode_model(graph, [inputs], [outputs], opset=_OPSET)
    return model + (encode_opset(domain, 1) if domain else b"")


def network_of_several() -> bytes:
    """Return a model with two inputs and two outputs.

    From "image", (N, 3, H, W), a 3 x 3 convolution makes "map", (N, 8, H, W). Its means over the positions and
    "levels", (N, 2), times a matrix, add up to the main output, (N, 8).
    """
    first, bias, second = _weights()
    graph = encode_node("Conv", ["image", "first", "bias"], "map", pads=[1, 1, 1, 1])
    graph += encode_node("GlobalAveragePool", ["map"], "means") + encode_node("Flatten", ["means"], "flat")
    graph += encode_node("MatMul", ["levels", "matrix"], "moved")
    graph += encode_node("Add", ["flat", "moved"], "output")
    for name, tensor in {"first": first, "bias": bias, "matrix": second[:, :, 0, 0]}.items():
        graph += encode_tensor(name, FLOAT, tensor.shape, tensor.astype("<f4").tobytes())
    inputs = [
        ValueInfo("image", FLOAT, [None, INPUT.channels, None, None]),
        ValueInfo("levels", FLOAT, [None, len(second)]),
    ]
    outputs = [
        ValueInfo("output", FLOAT, [None, len(first)]),
        ValueInfo("map", FLOAT, [None, len(first), None, None]),
    ]
    return encode_model(graph, inputs, outputs, opset=_OPSET)


def expected(inputs: FloatArray) -> FloatArray:
    """Return what :func:`network` must give for `inputs`, (N, 3, H, W), computed by numpy."""
    hidden = _convolved(inputs)
    hidden = np.where(hidden < 0, _SLOPE * hidden, hidden)
    values = np.einsum("oc,nchw->nohw", _weights()[2][:, :, 0, 0], hidden)
    return np.asarray(1 / (1 + np.exp(-values)), dtype=np.float32)


def expected_of_several(image: FloatArray, levels: FloatArray) -> dict[str, FloatArray]:
    """Return what :func:`network_of_several` must give for (N, 3, H, W) and (N, 2), computed by numpy."""
    found = _convolved(image)
    main = found.mean((2, 3)) + levels @ _weights()[2][:, :, 0, 0]
    return {"output": main.astype(np.float32), "map": found.astype(np.float32)}


def _convolved(inputs: FloatArray) -> npt.NDArray[np.float64]:
    """What the first convolution makes of `inputs`."""
    first, bias, _ = _weights()
    height, width = inputs.shape[2:]
    padded = np.pad(inputs, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
    found = np.zeros((len(inputs), len(first), height, width)) + bias[:, None, None]
    for row in range(3):
        for column in range(3):
            window = padded[:, :, row : row + height, column : column + width]
            found += np.einsum("oc,nchw->nohw", first[:, :, row, column], window)
    return found


def _weights() -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(0)
    shapes = (8, INPUT.channels, 3, 3), (8,), (2, 8, 1, 1)
    first, bias, second = (rng.normal(0, 0.5, shape).astype(np.float32) for shape in shapes)
    return first, bias, second


def _with_domain(node: bytes, domain: str) -> bytes:
    """Return a node with its domain stated: node is a length-prefixed field of the graph."""
    if not domain:
        return node
    (field,) = Reader(node).fields(0, len(node))
    return encode_bytes(
        fields.GRAPH_NODE, node[field.begin : field.end] + encode_bytes(fields.NODE_DOMAIN, domain.encode())
    )


def _outside(name: str, dims: Sequence[int], location: str) -> bytes:
    """Return an initializer whose data lies in another file."""
    entry = encode_bytes(1, b"location") + encode_bytes(2, location.encode())
    content = b"".join(encode_number(fields.TENSOR_DIMS, side) for side in dims)
    content += encode_number(fields.TENSOR_TYPE, FLOAT) + encode_bytes(fields.TENSOR_NAME, name.encode())
    content += encode_bytes(fields.TENSOR_EXTERNAL, entry) + encode_number(fields.TENSOR_LOCATION, 1)
    return encode_bytes(fields.GRAPH_INITIALIZER, content)
