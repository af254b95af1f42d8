"""Small ONNX files to try engines on, made without the onnx package, and what they must compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zoo.contracts import InputSpec
from zoo.onnx.graph import FLOAT, encode_node, encode_tensor
from zoo.onnx.protobuf import Reader, encode_bytes, encode_number

if TYPE_CHECKING:
    from zoo.contracts import FloatArray

#: What the network takes: sides of any size.
INPUT = InputSpec("rgb", 3, example=(32, 32))
_SLOPE = 0.2
_VERSION, _OPSET = 8, 17
# Field numbers of onnx.proto.
_MODEL_VERSION, _MODEL_GRAPH, _MODEL_OPSET = 1, 7, 8
_GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_NODE = 2, 5, 11, 12, 1


def network(*, operator: str = "LeakyRelu", domain: str = "", outside: str = "") -> bytes:
    """Return a model: 3 x 3 convolution, LeakyRelu, 1 x 1 convolution, Sigmoid; (N, 3, H, W) to (N, 2, H, W).

    Args:
        operator: What stands in the place of LeakyRelu.
        domain: The domain of that operator, "" for the standard one.
        outside: A file that the weights of the first convolution lie in, "" for the model itself.
    """
    first, bias, second = _weights()
    graph = encode_bytes(_GRAPH_NAME, b"small")
    graph += encode_node("Conv", ["input", "first", "bias"], "a", pads=[1, 1, 1, 1])
    graph += _with_domain(encode_node(operator, ["a"], "b", alpha=_SLOPE), domain)
    graph += encode_node("Conv", ["b", "second"], "c") + encode_node("Sigmoid", ["c"], "output")
    tensors = {"first": first, "bias": bias, "second": second}
    for name, tensor in tensors.items():
        if name == "first" and outside:
            graph += _outside(name, tensor.shape, outside)
        else:
            graph += encode_tensor(name, FLOAT, tensor.shape, tensor.astype("<f4").tobytes())
    graph += _value(_GRAPH_INPUT, "input", INPUT.channels) + _value(_GRAPH_OUTPUT, "output", len(second))
    opsets = {"": _OPSET, **({domain: 1} if domain else {})}
    model = encode_number(_MODEL_VERSION, _VERSION) + encode_bytes(_MODEL_GRAPH, graph)
    return model + b"".join(
        encode_bytes(_MODEL_OPSET, encode_bytes(1, name.encode()) + encode_number(2, version))
        for name, version in opsets.items()
    )


def expected(inputs: FloatArray) -> FloatArray:
    """Return what :func:`network` must give for `inputs`, (N, 3, H, W), computed by numpy."""
    first, bias, second = _weights()
    height, width = inputs.shape[2:]
    padded = np.pad(inputs, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
    hidden = np.zeros((len(inputs), len(first), height, width)) + bias[:, None, None]
    for row in range(3):
        for column in range(3):
            window = padded[:, :, row : row + height, column : column + width]
            hidden += np.einsum("oc,nchw->nohw", first[:, :, row, column], window)
    hidden = np.where(hidden < 0, _SLOPE * hidden, hidden)
    values = np.einsum("oc,nchw->nohw", second[:, :, 0, 0], hidden)
    return np.asarray(1 / (1 + np.exp(-values)), dtype=np.float32)


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
    return encode_bytes(_GRAPH_NODE, node[field.begin : field.end] + encode_bytes(7, domain.encode()))


def _outside(name: str, dims: Sequence[int], location: str) -> bytes:
    """Return an initializer whose data lies in another file."""
    entry = encode_bytes(1, b"location") + encode_bytes(2, location.encode())
    content = b"".join(encode_number(1, side) for side in dims) + encode_number(2, FLOAT)
    content += encode_bytes(8, name.encode()) + encode_bytes(13, entry) + encode_number(14, 1)
    return encode_bytes(_GRAPH_INITIALIZER, content)


def _value(key: int, name: str, channels: int) -> bytes:
    """Return the description of an input or output, float32 (N, channels, H, W)."""
    sides = [encode_bytes(2, b"N"), encode_number(1, channels), encode_bytes(2, b"H"), encode_bytes(2, b"W")]
    shape = b"".join(encode_bytes(1, side) for side in sides)
    tensor = encode_number(1, FLOAT) + encode_bytes(2, shape)
    return encode_bytes(key, encode_bytes(1, name.encode()) + encode_bytes(2, encode_bytes(1, tensor)))
