"""Constants of a graph as arrays: its initializers, and what the operators that unpack weights make of them.

A weight of fewer than 8 bits may be cut into planes of bits that shifts, masks and a table of levels put together
(:mod:`zoo.export.packing`); an engine that has no such operators is given the weight itself.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING, Any

from zoo.errors import IntegrityError
from zoo.onnx.fields import INT4
from zoo.onnx.graph import Graph, Node, Tensor
from zoo.onnx.packed_weights import as_int8

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.generic]

_TYPES = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 10: "<f2", 12: "<u4", 13: "<u8"}
_OPERATORS = ("BitShift", "BitwiseAnd", "BitwiseOr", "Cast", "Gather", "Reshape", "Slice")
#: Elements of an array that is computed here; the largest weight of a network is far smaller.
_MOST = 1 << 28


class Constants:
    """Values by name.

    Those of nodes are known from :meth:`follow`, to be called with each node in order, until :meth:`release`.
    """

    def __init__(self, data: bytes, graph: Graph) -> None:
        self._data = data
        self._tensors = {tensor.name: tensor for tensor in graph.initializers}
        self._computed: dict[str, Array] = {}
        self._uses = Counter(name for node in graph.nodes for name in node.inputs)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or name in self._computed

    def kind(self, name: str) -> int | None:
        """Return the ONNX type of an initializer, None for anything else."""
        tensor = self._tensors.get(name)
        return None if tensor is None else tensor.type

    def value(self, name: str) -> Array | None:
        """Return the array; None if it is unknown or of a type that numpy lacks; INT4 comes as int8.

        Raises:
            IntegrityError: It does not have the size that it states.
        """
        if name in self._computed:
            return self._computed[name]
        tensor = self._tensors.get(name)
        return None if tensor is None else self._read(tensor)

    def follow(self, node: Node) -> None:
        """Compute the node's result if its inputs are known and it is one that unpacks weights.

        Raises:
            IntegrityError: Its inputs do not fit each other.
        """
        if (
            node.operator in _OPERATORS
            and len(node.outputs) == 1
            and all(name in self for name in node.inputs)
        ):
            inputs = [self.value(name) for name in node.inputs]
            if all(value is not None for value in inputs):
                try:
                    self._computed[node.outputs[0]] = _result(node, inputs)
                except (ValueError, IndexError, TypeError, KeyError, MemoryError) as error:
                    raise IntegrityError(
                        f"The model file is damaged: {node.operator} cannot unpack a weight: {error}"
                    ) from error

    def release(self, node: Node) -> None:
        """Let go of what only nodes up to this one need."""
        for name in node.inputs:
            self._uses[name] -= 1
            if not self._uses[name]:
                self._computed.pop(name, None)

    def _read(self, tensor: Tensor) -> Array | None:
        import numpy as np

        if tensor.type == INT4 and tensor.content is not None:
            return np.frombuffer(as_int8(self._data, tensor), np.int8).reshape(tensor.dims)
        kind = _TYPES.get(tensor.type)
        if kind is None:
            return None
        if tensor.content is None:
            listed = tensor.int64 if tensor.type == 7 else tensor.int32
            signed = [each - (1 << 64) if each >> 63 else each for each in listed]
            return np.array(signed, kind).reshape(tensor.dims) if len(listed) == prod(tensor.dims) else None
        content = self._data[tensor.content.begin : tensor.content.end]
        if len(content) != prod(tensor.dims) * np.dtype(kind).itemsize:
            raise IntegrityError(
                f"The model file is damaged: '{tensor.name[:60]}' does not have the size that it states."
            )
        return np.frombuffer(content, kind).reshape(tensor.dims)


def _result(node: Node, inputs: list[Any]) -> Any:
    import numpy as np

    first, others = inputs[0], inputs[1:]
    if node.operator in ("BitShift", "BitwiseAnd", "BitwiseOr"):
        if prod(np.broadcast_shapes(*(each.shape for each in inputs))) > _MOST:
            raise ValueError("it has too many elements")
        if node.operator == "BitShift":
            shift = np.left_shift if node.attributes.get("direction") == "LEFT" else np.right_shift
            return shift(first, others[0])
        return (np.bitwise_and if node.operator == "BitwiseAnd" else np.bitwise_or)(first, others[0])
    if node.operator == "Cast":
        return first.astype(_TYPES[node.attributes["to"]])  # type: ignore[index]
    if node.operator == "Gather":
        if first.ndim != 1 or others[0].size > _MOST:
            raise ValueError("it is not a table")
        return first[others[0]]
    if node.operator == "Reshape":
        sides = [first.shape[axis] if side == 0 else side for axis, side in enumerate(others[0].tolist())]
        return first.reshape(sides)
    axes = others[2].tolist() if len(others) > 2 else range(len(others[0]))
    steps = others[3].tolist() if len(others) > 3 else [1] * len(others[0])
    cut = [slice(None)] * first.ndim
    for axis, start, end, step in zip(axes, others[0].tolist(), others[1].tolist(), steps, strict=True):
        if step != 1 or start < 0:
            raise ValueError("it needs something that no packing uses")
        cut[axis] = slice(start, end)
    return first[tuple(cut)]
