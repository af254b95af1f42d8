"""ONNX files that compute in 16 bits, as files that compute in float32: networks are compressed from that."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.onnx.nested_graphs import every_graph

_FLOAT, _HALVES = 1, (10, 16)


def widen(onnx: Any, model: Any) -> bool:
    """Make float32 of every float16 and bfloat16 of a model; return whether there were any.

    Args:
        onnx: The package.
        model: A ModelProto, which is changed.
    """
    changed = False
    for graph in every_graph(model.graph):
        changed |= bool(sum(_widen_tensor(onnx, tensor) for tensor in graph.initializer))
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in _HALVES:
                value.type.tensor_type.elem_type = _FLOAT
                changed = True
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    changed |= _widen_tensor(onnx, attribute.t)
                if attribute.name in ("to", "dtype") and attribute.i in _HALVES:
                    attribute.i = _FLOAT
                    changed = True
    return changed


def _widen_tensor(onnx: Any, tensor: Any) -> bool:
    if tensor.data_type not in _HALVES:
        return False
    wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    return True
