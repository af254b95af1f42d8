"""An int8 network as the float network that it stands for, rewritten in the file's bytes when it is loaded.

For processors without int8, where float16 is what runs fast: QuantizeLinear and DequantizeLinear would only cost time
there. Weights take the values of their levels, packed ones too; activations are no longer rounded, but still cut off
where their range of levels ends, since a net trained with that counts on it (a ReLU6 may be nothing else).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import IntegrityError
from zoo.onnx.constants import Constants
from zoo.onnx.encoding import encode_like, encode_node, encode_tensor, replace
from zoo.onnx.fields import FLOAT, INT8, UINT8
from zoo.onnx.graph import Graph, Node, read_model
from zoo.onnx.protobuf import Field

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_QUANTIZING = ("QuantizeLinear", "DynamicQuantizeLinear")
_LEVELS = {UINT8: (0, 255), INT8: (-128, 127)}
#: Operators whose results lie between the least and the greatest of their inputs, if 0 does.
_WITHIN = frozenset(
    (
        "AveragePool", "Concat", "DepthToSpace", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool",
        "Relu", "Reshape", "Slice", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze",
    )
)  # fmt: skip
_FLOAT_OPERATOR = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
#: What levels of weights are divided by where their scale comes later, so that float16 does not overflow.
_UNIT = 128.0


def to_float(data: bytes) -> bytes:
    """Return the same network without quantization; a float network is returned unchanged.

    What is quantized in a way that zoo does not write stays so.

    Raises:
        IntegrityError: The file is damaged, keeps data outside itself, or holds operators that are not
            standard.
    """
    graph = read_model(data)
    if graph.nested or not any(node.operator in _QUANTIZING for node in graph.nodes):
        return data
    edits, added = _Floating(data, graph).edits()
    return replace(data, graph, edits | dict.fromkeys(graph.value_infos, b""), added)


@dataclass
class _Step:
    """A node as it is to be. new: whether it has attributes of its own; else it keeps those of `node`."""

    node: Node
    operator: str
    inputs: list[str]
    outputs: list[str]
    new: bool = False

    @property
    def changed(self) -> bool:
        return (self.operator, self.inputs, self.outputs) != (
            self.node.operator,
            self.node.inputs,
            self.node.outputs,
        )


class _Floating:
    def __init__(self, data: bytes, graph: Graph) -> None:
        self._data, self._graph = data, graph
        self._constants = Constants(data, graph)
        self._users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._users.setdefault(name, []).append(node)
        self._taken = {t.name for t in graph.initializers} | {n for node in graph.nodes for n in node.outputs}
        self._instead: dict[str, str] = {}
        #: what a DequantizeLinear of these levels gives
        self._floats: dict[str, str] = {}
        self._range: dict[str, tuple[float, float]] = {}
        self._added: dict[str, bytes] = {}

    def edits(self) -> tuple[dict[Field, bytes], bytes]:
        """New bytes for places of the graph, and the initializers to add."""
        steps: list[_Step] = []
        for node in self._graph.nodes:
            self._constants.follow(node)
            steps += self._steps(node)
            self._constants.release(node)
        needed = set(self._graph.outputs)
        kept: list[_Step] = []
        for step in reversed(steps):
            if not needed.isdisjoint(step.outputs):
                needed.update(step.inputs)
                kept.append(step)
        places = {step.node.place: step for step in kept}
        edits = {}
        for node in self._graph.nodes:
            found = places.get(node.place)
            if found is None:
                edits[node.place] = b""
            elif found.new:
                edits[node.place] = encode_node(found.operator, found.inputs, found.outputs[0])
            elif found.changed:
                edits[node.place] = encode_like(self._data, node, found.operator, found.inputs, found.outputs)
        for tensor in self._graph.initializers:
            if tensor.name not in needed:
                edits[tensor.place] = b""
        return edits, b"".join(content for name, content in self._added.items() if name in needed)

    def _steps(self, node: Node) -> Iterable[_Step]:
        """Return what takes the place of a node: itself, another, or nothing."""
        inputs = [self._instead.get(name, name) for name in node.inputs]
        step = _Step(node, node.operator, inputs, node.outputs)
        if node.operator == "QuantizeLinear" and self._is_pair(node):
            return self._unrounded(node, inputs[0])
        if node.operator == "DequantizeLinear":
            return self._dequantized(step)
        if node.operator == "DynamicQuantizeLinear" and self._is_dynamic(node):
            self._instead[node.outputs[0]] = inputs[0]
            self._add(node.outputs[1], _array(_UNIT))
            return ()
        if node.operator in _FLOAT_OPERATOR and node.inputs[0] in self._instead:
            name = self._new_name(f"{node.inputs[1]}_float")
            self._add(name, self._levels(node.inputs[1], node.inputs[3]) / _UNIT)
            step.operator, step.inputs = _FLOAT_OPERATOR[node.operator], [inputs[0], name]
        elif node.operator in _WITHIN:
            ranges = {self._range.get(name) for name in inputs if name not in self._constants}
            known = ranges.pop() if len(ranges) == 1 else None
            if known is not None:
                self._range[node.outputs[0]] = known
        return (step,)

    # ------------------------------------------------------------------------------------ fixed scales

    def _is_pair(self, node: Node) -> bool:
        """Return whether a QuantizeLinear's levels are only ever dequantized, by its own scale and zero point."""
        users = self._users.get(node.outputs[0], [])
        return (
            len(node.outputs) == 1
            and node.outputs[0] not in self._graph.outputs
            and all(
                user.operator == "DequantizeLinear" and user.inputs == [node.outputs[0], *node.inputs[1:]]
                for user in users
            )
            and self._limits(node) is not None
        )

    def _limits(self, node: Node) -> tuple[float, float] | None:
        """Return the least and the greatest value that a QuantizeLinear lets pass; None if that is not one of each."""
        scale = self._constants.value(node.inputs[1])
        zero: Any = _array(0) if len(node.inputs) < 3 else self._constants.value(node.inputs[2])
        kind = UINT8 if len(node.inputs) < 3 else self._constants.kind(node.inputs[2])
        if scale is None or zero is None or scale.size != 1 or zero.size != 1 or kind not in _LEVELS:
            return None
        if "output_dtype" in node.attributes or not float(scale.item()) > 0:
            return None
        lowest, highest = (float((level - zero.item()) * scale.item()) for level in _LEVELS[kind])
        return lowest, highest

    def _unrounded(self, node: Node, value: str) -> Iterable[_Step]:
        limits = self._limits(node)
        assert limits is not None
        levels = node.outputs[0]
        within = self._range.get(value)
        if within is not None and limits[0] <= within[0] <= 0 <= within[1] <= limits[1]:
            self._floats[levels] = value
            return ()
        self._floats[levels] = levels
        self._range[levels] = limits
        bounds = [self._constant(limit) for limit in limits]
        return (_Step(node, "Clip", [value, *bounds], [levels], new=True),)

    def _dequantized(self, step: _Step) -> Iterable[_Step]:
        node, output = step.node, step.outputs[0]
        floats = self._floats.get(node.inputs[0])
        if floats is None:
            if node.inputs[0] not in self._constants or "block_size" in node.attributes:
                return (step,)
            self._add(output, self._weight(node))
        elif output in self._graph.outputs:
            return (_Step(node, "Identity", [floats], [output], new=True),)
        else:
            self._instead[output] = floats
        return ()

    def _weight(self, node: Node) -> npt.NDArray[np.float32]:
        """Return what a DequantizeLinear makes of a constant."""
        levels = self._levels(node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else "", node)
        scale = self._constants.value(node.inputs[1])
        if scale is None:
            raise IntegrityError("The model file is refused: a weight's scale is not a constant.")
        return _product(levels, self._along(scale, levels.ndim, node))

    def _levels(self, weight: str, zero_point: str, node: Node | None = None) -> npt.NDArray[np.float32]:
        """Return a weight's levels less their zero point."""
        import numpy as np

        levels = self._constants.value(weight)
        zero = self._constants.value(zero_point) if zero_point else np.zeros((), np.int8)
        if levels is None or zero is None:
            raise IntegrityError("The model file is refused: a weight or its zero point is not a constant.")
        if node is not None:
            zero = self._along(zero, levels.ndim, node)
        return _product(levels, np.ones((), np.float32)) - zero.astype(np.float32)

    def _along(self, values: npt.NDArray[Any], axes: int, node: Node) -> npt.NDArray[Any]:
        """Return one value for each channel, laid along the axis of the channels."""
        axis = node.attributes.get("axis", 1)
        if values.size == 1:
            return values.reshape(())
        if not isinstance(axis, int) or not -axes <= axis < axes or values.ndim != 1:
            raise IntegrityError("The model file is damaged: a weight's scales do not fit it.")
        return values.reshape([-1 if each == axis % axes else 1 for each in range(axes)])

    # ---------------------------------------------------------------------------------- dynamic scales

    def _is_dynamic(self, node: Node) -> bool:
        """Return whether the levels of a DynamicQuantizeLinear only ever meet constant weights in integer products."""
        levels, scale, zero = node.outputs
        users = self._users.get(levels, [])
        return (
            self._users.get(zero, []) == users
            and {levels, scale, zero}.isdisjoint(self._graph.outputs)
            and all(
                user.operator in _FLOAT_OPERATOR
                and len(user.inputs) == 4
                and (user.inputs[0], user.inputs[2]) == (levels, zero)
                and user.inputs[1] in self._constants
                and _size(self._constants.value(user.inputs[3])) == 1
                for user in users
            )
        )

    # ----------------------------------------------------------------------------------------- details

    def _constant(self, value: float) -> str:
        name = f"zoo_limit_{value!r}"
        if name not in self._added:
            name = self._new_name(name)
            self._add(name, _array(value))
        return name

    def _add(self, name: str, values: npt.NDArray[np.float32]) -> None:
        self._added[name] = encode_tensor(name, FLOAT, list(values.shape), values.astype("<f4").tobytes())

    def _new_name(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _size(values: npt.NDArray[Any] | None) -> int:
    return 0 if values is None else values.size


def _array(value: float) -> npt.NDArray[np.float32]:
    import numpy as np

    return np.array(value, np.float32)


def _product(levels: npt.NDArray[Any], scale: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    import numpy as np

    try:
        return np.asarray(levels.astype(np.float32) * scale.astype(np.float32), np.float32)
    except ValueError as error:
        raise IntegrityError("The model file is damaged: a weight's scales do not fit it.") from error
