"""INT4 weights as int8, for engines that compute convolutions with int8 weights in integers and with INT4 in float."""

from __future__ import annotations

from math import prod

from zoo.errors import IntegrityError
from zoo.onnx.encoding import encode_tensor, replace
from zoo.onnx.fields import INT4, INT8
from zoo.onnx.graph import Graph, Tensor, read_model
from zoo.onnx.protobuf import Field


def unpack_int4(data: bytes) -> bytes:
    """Return the same network with every INT4 weight as int8: the numbers are the same, and so is every result.

    Raises:
        IntegrityError: The file is damaged, keeps data outside itself, or holds operators that are not
            standard.
    """
    graph = read_model(data)
    edits = unpacked_initializers(data, graph)
    return replace(data, graph, edits) if edits else data


def unpacked_initializers(data: bytes, graph: Graph) -> dict[Field, bytes]:
    """Return replacements for INT4 initializers; none if any operator but DequantizeLinear uses one of them."""
    tensors = {tensor.name: tensor for tensor in graph.initializers if tensor.type == INT4}
    if graph.nested or not tensors.keys().isdisjoint(graph.outputs):
        return {}
    for node in graph.nodes:
        # A weight and its zero point are of one type.
        levels = node.inputs[:1] + node.inputs[2:]
        packed = [name in tensors for name in levels]
        if any(packed) and not (node.operator == "DequantizeLinear" and all(packed)):
            return {}
    return {
        tensor.place: encode_tensor(name, INT8, tensor.dims, as_int8(data, tensor))
        for name, tensor in tensors.items()
    }


def as_int8(data: bytes, tensor: Tensor) -> bytes:
    """Return the numbers of an INT4 tensor, one byte each.

    Args:
        data: Bytes of the model, in which the tensor lies.
        tensor: The tensor, (...,) of any shape.

    Raises:
        IntegrityError: Its data has the wrong size.
    """
    import numpy as np

    place, count = tensor.content, prod(tensor.dims)
    if place is None or place.end - place.begin != (count + 1) // 2:
        raise IntegrityError(
            f"The model file is damaged: '{tensor.name[:60]}' does not have the size that it states."
        )
    packed = np.frombuffer(data[place.begin : place.end], np.uint8)
    # The first number of a pair is in the lower half of the byte; shifting left and back extends the sign.
    pairs = np.stack([packed << 4, packed], axis=1).view(np.int8) >> 4
    return pairs.reshape(-1)[:count].tobytes()
