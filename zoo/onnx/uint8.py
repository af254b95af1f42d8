"""An int8 network as ONNX Runtime computes it fastest, rewritten in the file's bytes when it is loaded.

The file itself is written for all engines. INT4 weights become int8, with which alone ONNX Runtime convolves in
integers. None of the other changes made here changes a bit of the output:

- activations become uint8 on processors that multiply unsigned by signed integers;
- a ReLU between quantized values becomes a LeakyReLU of slope 0, which ONNX Runtime looks up in a table,
  while it would compute ReLU in float;
- Clip, Max and Min between quantized values of one scale bound the integers themselves;
- DepthToSpace becomes transpositions. Between int8 convolutions, whose channels lie innermost, all but one
  cancel out, and that one moves whole runs of channels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from zoo.errors import IntegrityError
from zoo.onnx.encoding import encode_node, encode_tensor, replace
from zoo.onnx.fields import INT64, UINT8
from zoo.onnx.graph import Graph, Node, Tensor, read_model
from zoo.onnx.int8_bounds import IntegerBounds
from zoo.onnx.packed_weights import unpacked_initializers
from zoo.onnx.protobuf import Field


def prepare_for_onnxruntime(data: bytes, *, unsigned: bool) -> bytes:
    """Return the same network in the form described above; one without int8 activations is returned as it is.

    Args:
        data: Bytes of the model.
        unsigned: Whether activations become uint8.

    Raises:
        IntegrityError: The file is damaged, keeps data outside itself, or holds operators that are not
            standard.
    """
    graph = read_model(data)
    if graph.nested or not any(node.operator == "QuantizeLinear" for node in graph.nodes):
        return data
    moved = _unsigned(graph) if unsigned else {}
    rewriting, bounds = _Rewriting(graph), IntegerBounds(data, graph, moved)
    edits = unpacked_initializers(data, graph) | moved | rewriting.edits() | bounds.edits()
    if not edits:
        return data
    # Recorded types and shapes of intermediate values may contradict the new ones; engines infer them.
    edits |= dict.fromkeys(graph.value_infos, b"")
    return replace(data, graph, edits, rewriting.added_constants() + bounds.added_constants())


def to_unsigned(data: bytes) -> bytes:
    """Return the same network with uint8 activations: zero points z of int8 become z + 128.

    Each quantized value moves by 128 and its zero point with it, so that what they stand for, and every
    integer product, stays the same. Weights are not touched. A network in which int8 activations meet
    anything but QuantizeLinear and DequantizeLinear is returned as it is.

    Raises:
        IntegrityError: As :func:`prepare_for_onnxruntime`.
    """
    graph = read_model(data)
    edits = {} if graph.nested else _unsigned(graph)
    return replace(data, graph, edits | dict.fromkeys(graph.value_infos, b"")) if edits else data


def _unsigned(graph: Graph) -> dict[Field, bytes]:
    return {
        tensor.place: encode_tensor(tensor.name, UINT8, tensor.dims, bytes([value + 128]))
        for tensor, value in _activation_zero_points(graph)
    }


def _activation_zero_points(graph: Graph) -> list[tuple[Tensor, int]]:
    """Return the zero points of all int8 activations with their values; empty if one of them cannot be shifted."""
    constants = {tensor.name: tensor for tensor in graph.initializers}
    if len(constants) != len(graph.initializers):
        raise IntegrityError("The model file is damaged: two initializers share a name.")
    found: dict[str, int] = {}
    quantized: set[str] = set()
    for node in graph.nodes:
        if node.operator == "QuantizeLinear" and len(node.inputs) == 3 and len(node.outputs) == 1:
            zero = constants.get(node.inputs[2])
            value = zero.int8_value() if zero is not None else None
            if value is None or node.inputs[0] in constants or "output_dtype" in node.attributes:
                continue
            found[node.inputs[2]] = value
            quantized.add(node.outputs[0])
    if quantized & set(graph.outputs) or not _only_dequantized(graph, quantized, found):
        return []
    return [(constants[name], value) for name, value in found.items()]


def _only_dequantized(graph: Graph, quantized: set[str], zero_points: dict[str, int]) -> bool:
    """Return whether shifted values and shifted zero points meet in QuantizeLinear and DequantizeLinear alone."""
    for node in graph.nodes:
        values = [name for name in node.inputs if name in quantized]
        zeros = [name for name in node.inputs if name in zero_points]
        if not values and not zeros:
            continue
        if node.operator == "DequantizeLinear":
            fine = values == node.inputs[:1] and zeros == node.inputs[2:] and len(zeros) == 1
        else:
            fine = quantized.issuperset(node.outputs) and not values and zeros == node.inputs[2:]
        if not fine:
            return False
    return not zero_points.keys() & set(graph.outputs)


class _Rewriting:
    """Nodes replaced by others, and the constants those need."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._producer = {name: node for node in graph.nodes for name in node.outputs}
        self._users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._users.setdefault(name, []).append(node)
        self._names = {tensor.name for tensor in graph.initializers} | self._producer.keys()
        self._constants: dict[tuple[int, ...], str] = {}

    def edits(self) -> dict[Field, bytes]:
        """New bytes for the places of the nodes to be replaced."""
        edits = {}
        for node in self._graph.nodes:
            if len(node.inputs) != 1 or len(node.outputs) != 1:
                continue
            if node.operator == "Relu" and self._between_integers(node):
                edits[node.place] = encode_node("LeakyRelu", node.inputs, node.outputs[0], alpha=0.0)
            elif node.operator == "DepthToSpace":
                edits[node.place] = b"".join(self._shuffled(node))
        return {place: new for place, new in edits.items() if new}

    def added_constants(self) -> bytes:
        """Initializers that the new nodes use."""
        return b"".join(
            encode_tensor(name, INT64, [len(values)], struct.pack(f"<{len(values)}q", *values))
            for values, name in self._constants.items()
        )

    def _between_integers(self, node: Node) -> bool:
        before = self._producer.get(node.inputs[0])
        after = self._users.get(node.outputs[0], [])
        return (
            before is not None
            and before.operator == "DequantizeLinear"
            and bool(after)
            and all(user.operator == "QuantizeLinear" for user in after)
            and node.outputs[0] not in self._graph.outputs
        )

    def _shuffled(self, node: Node) -> Iterator[bytes]:
        """DepthToSpace as reshapes and transpositions; nothing if it is not one that is known.

        No size is needed: 0 copies a side from the same position, -1 infers one, and axes of length 1 bring
        sides to the position that they are copied from.
        """
        size, mode = node.attributes.get("blocksize"), node.attributes.get("mode", "DCR")
        if not isinstance(size, int) or not 2 <= size <= 64 or mode not in ("DCR", "CRD"):
            return
        channels_last = self._between_integers(node)
        if channels_last:
            split, turn = ([size, size, -1], [0, 1, 3, 2, 4, 5]) if mode == "DCR" else (
                [-1, size, size], [0, 1, 4, 2, 5, 3]
            )  # fmt: skip
            steps: list[tuple[str, Sequence[int]]] = [
                ("Transpose", [0, 2, 3, 1]),
                ("Reshape", [0, 0, 0, *split]),
                ("Transpose", turn),
                ("Reshape", [0, 0, 0, 1, -1, 0]),
                ("Reshape", [0, 1, 1, -1, 0, 0]),
                ("Squeeze", [1, 2]),
                ("Transpose", [0, 3, 1, 2]),
            ]
        elif mode == "CRD":
            steps = [  # columns first, then rows: each moves one axis, for which there is a fast path
                ("Unsqueeze", [1]),
                ("Reshape", [0, -1, size, 0, 0]),
                ("Transpose", [0, 1, 3, 4, 2]),
                ("Reshape", [0, 0, 0, -1]),
                ("Unsqueeze", [1]),
                ("Reshape", [0, -1, size, 0, 0]),
                ("Transpose", [0, 1, 3, 2, 4]),
                ("Reshape", [0, 0, 1, -1, 0]),
                ("Squeeze", [2]),
            ]
        else:
            return
        value = node.inputs[0]
        for number, (operator, numbers) in enumerate(steps):
            last = number == len(steps) - 1
            output = node.outputs[0] if last else self._new_name(f"{node.outputs[0]}{number}")
            if operator == "Transpose":
                yield encode_node(operator, [value], output, perm=numbers)
            else:
                yield encode_node(operator, [value, self._constant(numbers)], output)
            value = output

    def _constant(self, values: Sequence[int]) -> str:
        key = tuple(values)
        if key not in self._constants:
            self._constants[key] = self._new_name("zoo_axes_" + "_".join(str(value) for value in key))
        return self._constants[key]

    def _new_name(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name
