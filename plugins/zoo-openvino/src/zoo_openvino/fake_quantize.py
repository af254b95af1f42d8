"""Activations quantized as OpenVINO computes them fastest: one FakeQuantize for each pair.

OpenVINO reads QuantizeLinear and DequantizeLinear as six operators, of which it loses sight at poolings,
concatenations and zero points: there it converts and subtracts. As one FakeQuantize, which is what its own tools
write, a pair costs nothing, and is computed rightly with or without a sign. Pairs whose values lie on their levels
already, behind operators that only move values, go altogether. What the file computes stays the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Operators that give nothing but values they were given, and zeros.
_MOVING = frozenset(
    {"Concat", "DepthToSpace", "MaxPool", "Relu", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)


@dataclass(frozen=True)
class _Range:
    """What 256 levels stand for."""

    low: float
    high: float


def fuse_pairs(model: Any) -> bool:
    """Rewrite all int8 and uint8 activations of an `openvino.Model`, in place; return whether that was all of them."""
    import numpy as np
    from openvino import opset13

    ranges: dict[str, _Range] = {}
    quantized = 0
    for node in model.get_ordered_ops():
        quantized += node.get_type_name() == "FakeQuantize"
        pair = _pair(node)
        if pair is None:
            continue
        source, levels = pair
        quantized -= 1
        if not _is_rounded(source, levels, ranges):
            low, high = (opset13.constant(np.float32(end)) for end in (levels.low, levels.high))
            fused = opset13.fake_quantize(source, low, high, low, high, 256)
            ranges[fused.get_name()] = levels
            source = fused.output(0)
        node.output(0).replace(source)
    model.validate_nodes_and_infer_types()
    return quantized == 0


def _pair(node: Any) -> tuple[Any, _Range] | None:
    """What is quantized and to what range, of the last operator of a pair that is its levels' only user."""
    if node.get_type_name() != "Multiply":
        return None
    scale, levels, zero = _constant(_source(node, 1)), _source(node).get_node(), 0
    if levels.get_type_name() == "Subtract":
        point, levels = _constant(_source(levels, 1)), _source(levels).get_node()
        if point is None or point.size != 1:
            return None
        zero = int(point.item())
    for operator in ("Convert", "Convert"):
        if levels.get_type_name() != operator or len(levels.output(0).get_target_inputs()) != 1:
            return None
        levels = _source(levels).get_node()
    if levels.get_type_name() != "FakeQuantize" or scale is None or scale.size != 1:
        return None
    lowest = _constant(_source(levels, 3))
    if lowest is None or lowest.size != 1:
        return None
    first = int(lowest.item()) - zero
    if not -255 <= first <= 0:
        return None
    return _source(levels), _Range(first * float(scale.item()), (first + 255) * float(scale.item()))


def _source(node: Any, place: int = 0) -> Any:
    return node.input(place).get_source_output()


def _constant(output: Any) -> Any:
    """The numbers of a constant, also behind a change of type; None if it is none."""
    node = output.get_node()
    while node.get_type_name() == "Convert":
        node = _source(node).get_node()
    return node.data if node.get_type_name() == "Constant" else None


def _is_rounded(output: Any, levels: _Range, ranges: dict[str, _Range]) -> bool:
    """Whether values lie on the levels of a range, given those of the FakeQuantize operators made so far."""
    node = output.get_node()
    if node.get_name() in ranges:
        return ranges[node.get_name()] == levels
    if node.get_type_name() not in _MOVING:
        return False
    places = range(node.get_input_size()) if node.get_type_name() == "Concat" else range(1)
    return all(_is_rounded(_source(node, place), levels, ranges) for place in places)
