"""Weights of fewer than 8 bits stored in as few as they have.

Four bits are ONNX's own INT4, two in a byte. Other widths are cut into planes of 4, 2 and 1 bits, each packed into
bytes, and put together again by standard operators: shifts, masks and a table of levels. What engines compute does
not depend on how they treat these operators; those that fold constants when loading lose no time over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.onnx.nested_graphs import read_values

if TYPE_CHECKING:
    import numpy.typing as npt

    import onnx

    Levels = npt.NDArray[np.int8]

#: The first opset in which DequantizeLinear takes INT4.
INT4_OPSET = 21
#: Zero points of INT4 weights, one for each number of channels.
_ZERO_POINT4 = "zoo_weight_zero_point4"
_PLANES = (4, 2, 1)


@dataclass
class _Form:
    """One way to store a weight: what takes its place in the graph."""

    tensors: list[onnx.TensorProto]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    zero_point: str = ""

    @property
    def size(self) -> int:
        tensors = sum(int(tensor.ByteSize()) for tensor in self.tensors)
        return tensors + sum(int(node.ByteSize()) for node in self.nodes)


def pack_weights(graph: onnx.GraphProto) -> bool:
    """Store each int8 weight of `graph` in the smallest form that holds its levels; whether INT4 is among them.

    A weight is what a DequantizeLinear takes from an initializer. Numbers do not change; initializers that nothing
    uses any more go.
    """
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    shared: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    done: dict[str, _Form] = {}
    has_int4 = False
    for node in graph.node:
        weight = initializers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if weight is not None and _is_packable(weight):
            form = done.get(weight.name)
            if form is None:
                form = done[weight.name] = min(_forms(weight, shared), key=lambda form: form.size)
                nodes += form.nodes
            if form.zero_point:
                has_int4 = True
                node.input[2] = _zero_point(initializers[node.input[2]], shared)
            if form.nodes:
                node.input[0] = form.nodes[-1].output[0]
        nodes.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    used = read_values(graph)
    stored = [tensor for tensor in graph.initializer if tensor.name not in done]
    stored += [tensor for form in done.values() for tensor in form.tensors]
    kept = [
        type(each).FromString(each.SerializeToString())
        for each in (*stored, *shared.values())
        if each.name in used
    ]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return has_int4


def _is_packable(weight: onnx.TensorProto) -> bool:
    from onnx import TensorProto

    return weight.data_type == TensorProto.INT8 and len(weight.dims) > 1


def _forms(weight: onnx.TensorProto, shared: dict[str, onnx.TensorProto]) -> Iterator[_Form]:
    """Every form that holds the levels of `weight`; constants that several weights use go to `shared`."""
    from onnx import numpy_helper

    yield _Form([weight])
    levels: Levels = numpy_helper.to_array(weight).reshape(-1)
    lowest, highest = int(levels.min()), int(levels.max())
    if lowest >= -8 and highest <= 7:
        yield _as_int4(weight, levels)
    if set(np.unique(levels).tolist()) == {-1, 1}:
        yield _as_planes(weight, (levels > 0).astype(np.uint8), 1, [-1, 1], shared)
    bits = max(1, (highest - lowest).bit_length())
    if bits < 8:
        codes = (levels.astype(np.int16) - lowest).astype(np.uint8)
        table = [min(level, 127) for level in range(lowest, lowest + 2**bits)]
        yield _as_planes(weight, codes, bits, table, shared)


def _as_int4(weight: onnx.TensorProto, levels: Levels) -> _Form:
    from onnx import TensorProto

    packed = TensorProto(name=weight.name, data_type=TensorProto.INT4, dims=weight.dims)
    packed.raw_data = _packed(levels.view(np.uint8) & np.uint8(15), 4).tobytes()
    return _Form([packed], zero_point=_ZERO_POINT4)


def _zero_point(old: onnx.TensorProto, shared: dict[str, onnx.TensorProto]) -> str:
    from onnx import TensorProto

    name = "_".join([_ZERO_POINT4, *(str(side) for side in old.dims)])
    if name not in shared:
        shared[name] = TensorProto(name=name, data_type=TensorProto.INT4, dims=old.dims)
        shared[name].raw_data = bytes(-(-int(np.prod(old.dims, dtype=np.int64)) // 2))
    return name


def _packed(codes: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.uint8]:
    """Codes below 2^width, the first in the lowest bits of a byte. (n,) -> (bytes,)"""
    each = 8 // width
    rows = np.zeros((-(-len(codes) // each), each), np.uint8)
    rows.reshape(-1)[: len(codes)] = codes
    shifted = rows << np.arange(0, 8, width, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(shifted, axis=1), np.uint8)


def _as_planes(
    weight: onnx.TensorProto,
    codes: npt.NDArray[np.uint8],
    bits: int,
    table: list[int],
    shared: dict[str, onnx.TensorProto],
) -> _Form:
    """Return the codes' planes, widest first, unpacked, put together and looked up in `table`."""
    from onnx import TensorProto

    builder = _Builder(weight.name, shared)
    whole, left = "", bits
    for width in (width for width in _PLANES if bits & width):
        left -= width
        plane = builder.plane((codes >> left) & (2**width - 1), width, len(codes))
        if left:
            plane = builder.node("BitShift", plane, builder.constant(np.uint8(left)), direction="LEFT")
        whole = builder.node("BitwiseOr", whole, plane) if whole else plane
    index = builder.node("Cast", whole, to=TensorProto.INT32)
    level = builder.node("Gather", builder.constant(np.array(table, np.int8)), index)
    builder.node("Reshape", level, builder.constant(np.array(weight.dims, np.int64)))
    return _Form(builder.tensors, builder.nodes)


class _Builder:
    """Nodes that unpack one weight, named after it."""

    def __init__(self, weight: str, shared: dict[str, onnx.TensorProto]) -> None:
        self.tensors: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self._weight, self._shared = weight, shared

    def plane(self, codes: npt.NDArray[np.uint8], width: int, count: int) -> str:
        """`count` codes of `width` bits as a vector of uint8."""
        from onnx import numpy_helper

        name = f"{self._weight}:plane{width}" if self.tensors else self._weight
        self.tensors.append(numpy_helper.from_array(_packed(codes, width)[:, None], name))
        shifts = self.constant(np.arange(0, 8, width, dtype=np.uint8))
        spread = self.node("BitShift", name, shifts, direction="RIGHT")
        cut = self.node("BitwiseAnd", spread, self.constant(np.uint8(2**width - 1)))
        flat = self.node("Reshape", cut, self.constant(np.array([-1], np.int64)))
        if count % (8 // width) == 0:
            return flat
        first, end = self.constant(np.array([0], np.int64)), self.constant(np.array([count], np.int64))
        return self.node("Slice", flat, first, end)

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; gives the name of its output."""
        from onnx import helper

        name = f"{self._weight}:{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Return an initializer of this value that all weights share."""
        from onnx import numpy_helper

        array = np.asarray(value)
        # Tables are runs of levels: their length and first two tell all.
        values = array.reshape(-1).tolist()[: 2 if array.size > 8 else 8]
        name = "_".join(["zoo", str(array.dtype), str(array.size), *(str(value) for value in values)])
        self._shared.setdefault(name, numpy_helper.from_array(array, name))
        return name
