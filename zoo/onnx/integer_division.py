"""Divisions of integers that could end the process of an engine by a signal, found before it sees the file.

Processors trap where an integer is divided by zero, and where the least one is divided by -1. What the integers of a
graph can be is bounded by interval arithmetic: constants are what they are, the sides of tensors are not negative, and
what is not known can be anything of its type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from typing import TypeAlias

from zoo.errors import IntegrityError
from zoo.onnx.fields import FLOAT, INT64
from zoo.onnx.graph import Graph, Node, Tensor

#: The least and the most that a value can be.
Interval: TypeAlias = "tuple[int, int]"
#: The type of a value, 0 if it is not known, and of an integer what it can be.
Known: TypeAlias = "tuple[int, Interval | None]"

_UNKNOWN: Known = (0, None)
_BOOL = 9
_SIGNED = {3: 8, 5: 16, 6: 32, 7: 64}
_UNSIGNED = {2: 8, 4: 16, 12: 32, 13: 64}
_LISTED_AS_INT32 = {2, 3, 4, 5, 6}
#: More than any side, count or index is.
_SIZES = (0, 1 << 47)
#: Operators whose first output has another type than their first input: the type, or the place of the input that has
#: it. What is not listed has that of its first input.
_TYPES = {
    FLOAT: "BlackmanWindow DequantizeLinear HammingWindow HannWindow MelWeightMatrix",
    2: "DynamicQuantizeLinear QuantizeLinear",
    6: "ConvInteger MatMulInteger",
    INT64: "ArgMax ArgMin NonMaxSuppression NonZero SequenceLength Shape Size",
    _BOOL: "And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor",
}
_TYPE_OF = {name: kind for kind, names in _TYPES.items() for name in names.split()}
_TYPE_OF_INPUT = {
    "CastLike": 1,
    "OneHot": 2,
    "QLinearConv": 7,
    "QLinearMatMul": 7,
    "QuantizeLinear": 2,
    "Where": 1,
}
#: Attributes that state the type of the output.
_TYPE_STATED = {
    "BitCast": "to", "BlackmanWindow": "output_datatype", "Cast": "to", "DequantizeLinear": "output_dtype",
    "EyeLike": "dtype", "HammingWindow": "output_datatype", "HannWindow": "output_datatype",
    "MelWeightMatrix": "output_datatype", "QuantizeLinear": "output_dtype", "SequenceEmpty": "dtype",
}  # fmt: skip
#: Types of further outputs, where they are not that of the first.
_FURTHER: dict[str, dict[int, int]] = {
    "Dropout": {1: _BOOL}, "DynamicQuantizeLinear": {1: FLOAT}, "MaxPool": {1: INT64}, "TopK": {1: INT64},
    "Unique": {1: INT64, 2: INT64, 3: INT64},
}  # fmt: skip
#: Operators that give nothing but elements of their first input.
_SELECTING = frozenset(
    (
        "Compress", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape",
        "ReverseSequence", "SequenceAt", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    )
)  # fmt: skip


def check_divisions(graph: Graph) -> None:
    """Refuse divisions of integers that could trap.

    Args:
        graph: Those inside it are checked too.

    Raises:
        IntegrityError: One could; the node is named.
    """
    _check_graph(graph, {}, frozenset())


def _check_graph(graph: Graph, outer: Mapping[str, Known], fixed: Set[str]) -> dict[str, Known]:
    """Check a graph; return what is known of the values that it sees. fixed: those of `outer` that are constants."""
    tensors = {tensor.name: tensor for tensor in graph.initializers}
    constants = {*fixed, *tensors}
    known = {**outer, **{name: (tensor.type, _held_by(tensor)) for name, tensor in tensors.items()}}
    for value in graph.inputs:
        if value.name not in tensors:
            known[value.name] = value.kind or 0, _all_of(value.kind or 0)
    for node in graph.nodes:
        inner = [_check_graph(each, known, constants) for each in node.graphs]
        given = [known.get(name, _UNKNOWN) for name in node.inputs]
        if node.operator in ("Div", "Mod"):
            _check_division(node, given, fixed=constants.issuperset(node.inputs[1:]))
        if node.operator == "STFT":
            _check_frame(node, given)
        if node.operator == "Constant":
            constants.update(node.outputs)
        for place, name in enumerate(node.outputs):
            branches = zip(node.graphs, inner, strict=True)
            known[name] = (
                _joined([found.get((*each.outputs, "", "")[place], _UNKNOWN) for each, found in branches])
                if node.graphs
                else _result(node, place, given)
            )
    return known


def _check_division(node: Node, given: list[Known], *, fixed: bool) -> None:
    if len(given) != 2 or any(kind == 0 for kind, _ in given):
        raise _refused(node, "has inputs whose types are not known before it")
    (kind, dividends), (_, divisors) = given
    if dividends is None or divisors is None:
        return
    # An engine itself finds a zero that is computed.
    if (fixed or divisors == (0, 0)) and divisors[0] <= 0 <= divisors[1]:
        raise _refused(node, "divides integers by numbers that may be zero")
    if kind in _SIGNED and divisors[0] <= -1 <= divisors[1] and dividends[0] == _least(kind):
        raise _refused(node, "divides integers by numbers that may be -1, which traps at the least integer")


def _check_frame(node: Node, given: list[Known]) -> None:
    # Without a length it is that of the window, which may be empty.
    length = given[3][1] if node.inputs[3:4] not in ([], [""]) else None
    if length is None or length[0] < 1:
        raise _refused(node, "divides by the length of a frame, which may be zero")


def _refused(node: Node, what: str) -> IntegrityError:
    name = node.name or "".join(node.outputs[:1])
    return IntegrityError(f"The model file is refused: {node.operator} {name[:60]!a} {what}.")


# ------------------------------------------------------------------------------------------------- what values can be


def _result(node: Node, place: int, given: list[Known]) -> Known:
    """What is known of an output of a node without graphs."""
    kind = _FURTHER.get(node.operator, {}).get(place) or _type(node, given)
    every = _all_of(kind)
    found = _interval(node, place, [each for _, each in given])
    if every and found and every[0] <= found[0] and found[1] <= every[1]:
        return kind, found
    return kind, every  # it wraps around


def _type(node: Node, given: list[Known]) -> int:
    operator = node.operator
    stated = node.attributes.get(_TYPE_STATED.get(operator, ""))
    if isinstance(stated, int) and stated:
        return stated
    if operator in ("Constant", "ConstantOfShape"):
        if node.tensors:
            return node.tensors[0].type
        return INT64 if {"value_int", "value_ints"} & set(node.attributes) else FLOAT
    place = _TYPE_OF_INPUT.get(operator, 0)
    if operator in _TYPE_OF and (
        operator not in _TYPE_OF_INPUT or node.inputs[place : place + 1] in ([], [""])
    ):
        return _TYPE_OF[operator]
    return given[place][0] if place < len(given) else 0


def _interval(node: Node, place: int, given: list[Interval | None]) -> Interval | None:
    """What an integer result can be, before it wraps around; None for anything."""
    operator = node.operator
    if place or operator in _TYPE_OF:  # what is not quantized: counts and indices
        return (
            _SIZES
            if _FURTHER.get(operator, {}).get(place) == INT64 or _TYPE_OF.get(operator) == INT64
            else None
        )
    if operator in ("Constant", "ConstantOfShape"):
        return _of_constant(node)
    first = given[0] if given else None
    if first is None:
        return None
    if operator in _SELECTING or operator == "Cast":
        return first
    known = [each for each in given if each is not None]
    if operator == "Where":
        return _union(known[-2:]) if len(known) == len(given) else None
    if len(known) < len(given):
        return None
    if operator == "Concat":
        return _union(known)
    if operator == "Range":
        return _union(known[:2])
    rule = _ARITHMETIC.get(operator)
    return rule(known) if rule else None


def _corners(known: list[Interval], of: Callable[[int, int], int]) -> Interval:
    (a, b), (c, d) = known
    values = [of(x, y) for x in (a, b) for y in (c, d)]
    return min(values), max(values)


def _divided(known: list[Interval]) -> Interval | None:
    (low, high), (least, _) = known
    return (min(low, 0), max(high, 0)) if least >= 0 else None  # nearer to zero, or as it was


def _remainders(known: list[Interval]) -> Interval | None:
    (low, _), (least, most) = known
    return (0 if low >= 0 else -most, most) if least >= 0 else None


_ARITHMETIC: dict[str, Callable[[list[Interval]], Interval | None]] = {
    "Add": lambda known: (known[0][0] + known[1][0], known[0][1] + known[1][1]),
    "Sub": lambda known: (known[0][0] - known[1][1], known[0][1] - known[1][0]),
    "Mul": lambda known: _corners(known, lambda x, y: x * y),
    "Div": _divided,
    "Mod": _remainders,
    "Max": lambda known: (max(low for low, _ in known), max(high for _, high in known)),
    "Min": lambda known: (min(low for low, _ in known), min(high for _, high in known)),
    "Neg": lambda known: (-known[0][1], -known[0][0]),
    "Abs": lambda known: (0, max(-known[0][0], known[0][1])),
}


def _union(known: Iterable[Interval]) -> Interval | None:
    listed = list(known)
    return (min(low for low, _ in listed), max(high for _, high in listed)) if listed else None


def _joined(branches: list[Known]) -> Known:
    """What is known of a value that comes from one of several graphs."""
    kinds = {kind for kind, _ in branches}
    if len(kinds) != 1:
        return _UNKNOWN
    bounds = [bound for _, bound in branches if bound is not None]
    return kinds.pop(), _union(bounds)


def _all_of(kind: int) -> Interval | None:
    """Every value of a type of integers; None for other types."""
    if kind in _SIGNED:
        return _least(kind), -_least(kind) - 1
    if kind in _UNSIGNED:
        return 0, (1 << _UNSIGNED[kind]) - 1
    return (0, 1) if kind == _BOOL else None


def _least(kind: int) -> int:
    return -(1 << (_SIGNED[kind] - 1))


def _of_constant(node: Node) -> Interval | None:
    if node.tensors:
        return _held_by(node.tensors[0])
    values = node.attributes.get("value_ints", node.attributes.get("value_int"))
    numbers = [values] if isinstance(values, int) else values
    return (min(numbers), max(numbers)) if isinstance(numbers, list) and numbers else None


def _held_by(tensor: Tensor) -> Interval | None:
    """What the numbers of a tensor are, if it is small; what its type allows else."""
    every = _all_of(tensor.type)
    if every is None or tensor.type == _BOOL:
        return every
    if tensor.raw:
        size = (_SIGNED | _UNSIGNED)[tensor.type] // 8
        numbers = [
            int.from_bytes(tensor.raw[at : at + size], "little", signed=tensor.type in _SIGNED)
            for at in range(0, len(tensor.raw), size)
        ]
    else:
        listed = (
            tensor.int64 if tensor.type == INT64 else tensor.int32 if tensor.type in _LISTED_AS_INT32 else []
        )
        numbers = [each - (1 << 64) if each >> 63 else each for each in listed]
    whole = numbers and len(numbers) == math.prod(tensor.dims)
    return (min(numbers), max(numbers)) if whole else every
