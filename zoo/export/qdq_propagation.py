"""Quantized values carried through operators that only move them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

#: ONNX Runtime carries integers through these of itself.
_MOVES = frozenset({"MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})


def propagate_qdq(graph: onnx.GraphProto) -> None:
    """Put the pair of nodes that quantized a value behind what moves the value too; no number changes.

    ONNX Runtime does so when it loads a file. In files with integers of four bits, that is from opset 21 on, it then
    contradicts itself on x86: the pair that it inserts says int8, its zero point becomes uint8 a moment later, and
    the file is refused. It inserts none where one is.
    """
    from onnx import helper

    constants = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    pairs: dict[str, onnx.NodeProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        pair = pairs.get(node.input[0]) if node.op_type in _MOVES else None
        if node.op_type == "DequantizeLinear" and not node.attribute and node.input[0] not in constants:
            pairs[node.output[0]] = node
        elif pair is not None:
            value = node.output[0]
            if value in outputs or all(user.op_type == "QuantizeLinear" for user in users.get(value, ())):
                continue
            moved, levels = f"{value}moved", f"{value}levels"
            node.output[0] = moved
            for operator, given, made in (
                ("QuantizeLinear", moved, levels),
                ("DequantizeLinear", levels, value),
            ):
                nodes.append(
                    helper.make_node(operator, [given, *pair.input[1:]], [made], f"{node.name}:{operator}")
                )
            pairs[value] = nodes[-1]
    del graph.node[:]
    graph.node.extend(nodes)
