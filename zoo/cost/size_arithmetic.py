"""Sizes that an ONNX graph computes from the size of its input, computed."""

from __future__ import annotations

import math
from collections import ChainMap
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from onnx import ModelProto

#: Shapes and indices are short; what is longer holds weights or activations.
_LONGEST = 64


def fold_sizes(model: ModelProto) -> bool:
    """Put numbers in the place of nodes that depend on shapes alone, in place; False if there are none.

    Shapes must have been inferred. Shape inference knows sums and products of sizes by itself, but not, for instance,
    remainders, which padding to a multiple takes. Fractions on the way to a size are computed, but stay in the graph:
    there a number that is not an integer may be a trained one.
    """
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    from onnx import TensorProto, numpy_helper

    graph = model.graph
    opsets = {each.domain: each.version for each in model.opset_import}
    known = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.INT64 and math.prod(tensor.dims) <= _LONGEST
    }
    scalars = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and not math.prod(tensor.dims) > 1
    }
    fractions: dict[str, Any] = {}
    sizes = ChainMap[str, Any](known, fractions)
    shapes = {}
    for value in (*graph.input, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = [dim.dim_value for dim in dims]
    left = []
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes:
            # Only the shape is read: a tensor without memory behind its elements will do.
            feeds: dict[str, Any] = {node.input[0]: np.broadcast_to(np.float32(0), shapes[node.input[0]])}
        else:
            feeds = {name: sizes.get(name, scalars.get(name)) for name in node.input if name}
            if not any(name in sizes for name in feeds) or any(value is None for value in feeds.values()):
                left.append(node)
                continue
        number = np.asarray(cast("list[Any]", ReferenceEvaluator(node, opsets=opsets).run(None, feeds))[0])
        if number.dtype.kind != "i" or number.size > _LONGEST:
            left.append(node)
            if number.dtype.kind == "f" and number.size <= _LONGEST:
                fractions[node.output[0]] = number
            continue
        known[node.output[0]] = number
        graph.initializer.append(numpy_helper.from_array(number, node.output[0]))
    folded = len(left) < len(graph.node)
    del graph.node[:]
    graph.node.extend(left)
    return folded
