"""An int8 network with symmetric int8 activations, rewritten in the file's bytes when it is loaded.

TensorRT's quantizers have no zero point. Levels with a sign, which a file keeps as uint8 with the zero point 128, move
by 128: every number stays the same. Where values reach farther to one side of 0, and have more levels there, the step
becomes longer until int8 reaches as far: twice as long for levels from 0 up, of values that cannot be negative.
"""

from __future__ import annotations

import struct

from zoo.onnx.encoding import encode_like, encode_tensor, replace
from zoo.onnx.fields import FLOAT, INT8
from zoo.onnx.graph import Graph, Node, read_model
from zoo.onnx.protobuf import Field

_SIGNED, _UNSIGNED = 128, 0
_MOST_SIGNED, _LEVELS = 127, 255


def to_symmetric(data: bytes) -> bytes:
    """Return the same network with int8 activations of zero point 0.

    One whose activations are so already, or meet anything but QuantizeLinear and DequantizeLinear, is returned as it
    is.

    Raises:
        IntegrityError: The file is damaged, keeps data outside itself, or holds operators that are not
            standard.
    """
    graph = read_model(data)
    if graph.nested:
        return data
    return _Symmetric(data, graph).rewritten()


class _Symmetric:
    def __init__(self, data: bytes, graph: Graph) -> None:
        self._data, self._graph = data, graph
        self._constants = {tensor.name: tensor for tensor in graph.initializers}
        self._users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._users.setdefault(name, []).append(node)
        self._taken = self._constants.keys() | {name for node in graph.nodes for name in node.outputs}

    def rewritten(self) -> bytes:
        """Return the file with every activation symmetric, or as it is."""
        pairs = self._pairs()
        if not pairs:
            return self._data
        # Of constants one of their own: :func:`zoo.onnx.uint8.to_unsigned` moves the activations' alone.
        zero, constant_zero = (
            self._new_name("zoo_zero_point_int8"),
            self._new_name("zoo_constant_zero_point_int8"),
        )
        added = [encode_tensor(name, INT8, [], b"\0") for name in (zero, constant_zero)]
        constant = {node.outputs[0] for node in pairs if node.inputs[0] in self._constants}
        narrow = {node.inputs[1] for node in pairs if self._is_narrow(node)}
        longer: dict[tuple[str, int], str] = {}
        edits: dict[Field, bytes] = {}
        for node in pairs:
            scale, point = node.inputs[1], self._zero_point(node)
            if point is None:
                return self._data
            if point != _SIGNED and scale not in narrow:
                if (scale, point) not in longer:
                    value = self._scale(scale)
                    if value is None:
                        return self._data
                    longer[scale, point] = self._new_name(f"{scale}_symmetric")
                    raw = struct.pack("<f", value * max(point, _LEVELS - point) / _MOST_SIGNED)
                    added.append(encode_tensor(longer[scale, point], FLOAT, self._constants[scale].dims, raw))
                scale = longer[scale, point]
            is_constant = node.inputs[0] in self._constants or node.inputs[0] in constant
            inputs = [node.inputs[0], scale, constant_zero if is_constant else zero]
            edits[node.place] = encode_like(self._data, node, node.operator, inputs, node.outputs)
        return replace(
            self._data, self._graph, edits | dict.fromkeys(self._graph.value_infos, b""), b"".join(added)
        )

    def _pairs(self) -> list[Node]:
        """Return all nodes that round an activation to uint8 or read it; none if one of them cannot be changed."""
        rounding = [
            node for node in self._graph.nodes if node.operator == "QuantizeLinear" and len(node.inputs) == 3
        ]
        found = []
        for node in rounding:
            readers = self._users.get(node.outputs[0], [])
            if self._zero_point(node) is None:
                zero = self._constants.get(node.inputs[2])
                if zero is not None and zero.type == INT8:
                    continue
                return []
            if (
                node.outputs[0] in self._graph.outputs
                or "output_dtype" in node.attributes
                or self._scale(node.inputs[1]) is None
                or any(
                    each.operator != "DequantizeLinear" or each.inputs[1:] != node.inputs[1:]
                    for each in readers
                )
            ):
                return []
            found += [node, *readers]
        return found

    def _zero_point(self, node: Node) -> int | None:
        zero = self._constants.get(node.inputs[2])
        return zero.uint8_value() if zero is not None else None

    def _scale(self, name: str) -> float | None:
        """Return a scale that is one float32."""
        tensor = self._constants.get(name)
        place = tensor.content if tensor is not None and tensor.type == FLOAT else None
        if place is None or place.end - place.begin != 4:
            return None
        return float(struct.unpack("<f", self._data[place.begin : place.end])[0])

    def _is_narrow(self, node: Node) -> bool:
        """Return whether a Clip behind a pair leaves no more levels than int8 has from 0 up."""
        if node.operator != "DequantizeLinear" or self._zero_point(node) != _UNSIGNED:
            return False
        users, scale = self._users.get(node.outputs[0], []), self._scale(node.inputs[1])
        if [user.operator for user in users] != ["Clip"] or len(users[0].inputs) < 3 or scale is None:
            return False
        highest = self._scale(users[0].inputs[2])
        return highest is not None and highest <= (_MOST_SIGNED + 0.5) * scale

    def _new_name(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken |= {name}
        return name
