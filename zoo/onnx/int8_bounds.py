"""Bounds on quantized values, computed in integers.

Narrow activations are clipped, and a batch norm behind a ReLU leaves a maximum for each channel. Between values of
one scale such a bound in float gives what the rounded bound gives in integers, since rounding never changes which of
two numbers is the greater: q(max(x, b)) = max(q(x), q(b)).
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import TYPE_CHECKING

from zoo.onnx.encoding import encode_node, encode_tensor
from zoo.onnx.fields import FLOAT, INT8, UINT8
from zoo.onnx.graph import Graph, Node
from zoo.onnx.protobuf import Field

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: How many inputs each operator has: the values, and the bounds.
_BOUNDING = {"Clip": (2, 3), "Max": (2,), "Min": (2,)}


class IntegerBounds:
    """Clip, Max and Min between DequantizeLinear and QuantizeLinear of one scale and zero point, done in integers.

    `unsigned` are the places of the zero points that are moved from int8 to uint8.
    """

    def __init__(self, data: bytes, graph: Graph, unsigned: Collection[Field]) -> None:
        self._data, self._graph, self._unsigned = data, graph, unsigned
        self._tensors = {tensor.name: tensor for tensor in graph.initializers}
        self._producer = {name: node for node in graph.nodes for name in node.outputs}
        self._users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._users.setdefault(name, []).append(node)
        self._added: list[bytes] = []

    def edits(self) -> dict[Field, bytes]:
        """Return new bytes for the places of nodes; empty for those whose work is done by others."""
        edits: dict[Field, bytes] = {}
        for node in self._graph.nodes:
            if len(node.inputs) in _BOUNDING.get(node.operator, ()) and len(node.outputs) == 1:
                after = self._quantizing(node)
                bounds = self._bounds(node, after.inputs) if after is not None else None
                if after is not None and bounds is not None:
                    levels = self._producer[node.inputs[0]].inputs[0]
                    edits[node.place] = encode_node(node.operator, [levels, *bounds], after.outputs[0])
                    edits[after.place] = b""
        return edits

    def added_constants(self) -> bytes:
        """Return the initializers that the new nodes use."""
        return b"".join(self._added)

    def _quantizing(self, node: Node) -> Node | None:
        """Return the one QuantizeLinear that takes what `node` makes of values of its own scale and zero point."""
        before, users = self._producer.get(node.inputs[0]), self._users.get(node.outputs[0], [])
        if (
            before is not None
            and before.operator == "DequantizeLinear"
            and len(before.inputs) == 3
            and [(user.operator, user.inputs[1:]) for user in users]
            == [("QuantizeLinear", before.inputs[1:])]
            and not users[0].attributes
            and len(users[0].outputs) == 1
            and not {node.outputs[0], users[0].outputs[0]} & set(self._graph.outputs)
        ):
            return users[0]
        return None

    def _bounds(self, node: Node, quantizer: list[str]) -> list[str] | None:
        """Return the names of the bounds in integers; None if one of them, the scale or the zero point is not known."""
        import numpy as np

        zero = self._tensors.get(quantizer[2])
        if zero is None:
            return None
        point = zero.int8_value() if zero.type == INT8 else zero.uint8_value()
        scale = self._floats(quantizer[1])
        if point is None or scale is None or scale.size != 1 or not scale.item() > 0:
            return None
        moved = 128 if zero.place in self._unsigned else 0
        kind, lowest = (UINT8, 0) if moved or zero.type == UINT8 else (INT8, -128)
        names = []
        for name in node.inputs[1:]:
            values = self._floats(name) if name else np.zeros(0, np.float32)
            if values is None or np.isnan(values).any():
                return None
            levels = np.clip(np.rint(values / scale.item()) + point + moved, lowest, lowest + 255)
            names.append(self._add(levels, kind, self._tensors[name].dims) if name else "")
        return names

    def _floats(self, name: str) -> npt.NDArray[np.float32] | None:
        """Return the numbers of a float32 constant."""
        import numpy as np

        tensor = self._tensors.get(name)
        place = tensor.content if tensor is not None and tensor.type == FLOAT else None
        if tensor is None or place is None or place.end - place.begin != 4 * prod(tensor.dims):
            return None
        return np.frombuffer(self._data[place.begin : place.end], "<f4")

    def _add(self, levels: npt.NDArray[np.float32], kind: int, dims: list[int]) -> str:
        import numpy as np

        name = f"zoo_bound_{len(self._added)}"
        while name in self._tensors or name in self._producer:
            name += "_"
        stored = levels.astype(np.uint8 if kind == UINT8 else np.int8)
        self._added.append(encode_tensor(name, kind, dims, stored.tobytes()))
        return name
