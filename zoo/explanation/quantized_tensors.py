"""The quantized tensors of an ONNX file: where they are, what they are called, how each is rounded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import IntegrityError
from zoo.explanation.rounding_rule import RoundingRule
from zoo.extras import require

if TYPE_CHECKING:
    import numpy.typing as npt

    import onnx

    Array = npt.NDArray[np.float64]

#: Operators named after the layer whose weight they hold, and which input the weight is.
LAYERS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "ConvInteger": 1, "MatMulInteger": 1}
_CODING = ("QuantizeLinear", "DequantizeLinear", "Identity")
#: What makes an integer product the result of a layer.
_SCALING = (["Cast"], ["Mul"], ["Add"])
#: Operators whose results are among the values of their inputs, and how many of their inputs are values; 0: all.
_PASSING = {
    "Concat": 0, "MaxPool": 1, "GlobalMaxPool": 1, "DepthToSpace": 1, "SpaceToDepth": 1, "Reshape": 1, "Transpose": 1,
    "Flatten": 1, "Squeeze": 1, "Unsqueeze": 1, "Slice": 1, "Split": 1, "Pad": 1, "Resize": 1, "Gather": 1,
    "Expand": 1, "Tile": 1, "Identity": 1, "Relu": 1, "Clip": 1,
}  # fmt: skip
#: How many operators a name tells of between the last layer and a value.
_LONGEST = 3
#: More operators than it takes to unpack a weight.
_LONGEST_UNPACKING = 100


def quantized_tensors(data: bytes) -> list[RoundingRule]:
    """Return the quantized tensors of an ONNX file, in the order of its nodes; empty for a float network.

    A tensor that takes over the levels of another (behind a pooling, a concatenation) is among them.

    Raises:
        IntegrityError: The file is damaged.
        MissingDependencyError: `onnx` is not installed.
    """
    return _Reader(parse_onnx(data)).roundings()


def parse_onnx(data: bytes) -> onnx.ModelProto:
    """Return the file as the `onnx` package holds it."""
    require("onnx", "Explaining a file")
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise IntegrityError(f"The model is not an ONNX file: {error}.") from error
    return model


def remove_activation_rounding(model: onnx.ModelProto) -> None:
    """Have every activation of `model` pass as it is, in place; weights stay rounded."""
    constants = {tensor.name for tensor in model.graph.initializer}
    producer = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] in constants:
            continue
        rounding = producer.get(node.input[0])
        if rounding is not None and rounding.op_type == "QuantizeLinear":
            node.op_type = "Identity"
            del node.attribute[:]
            node.input[:] = [rounding.input[0]]


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self._array = numpy_helper.to_array
        self._opsets = list(model.opset_import)
        self._nodes = list(model.graph.node)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producer = {name: node for node in self._nodes for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._taken: Counter[str] = Counter()

    def roundings(self) -> list[RoundingRule]:
        found: dict[str, RoundingRule] = {}
        for node in self._nodes:
            rounding = self._rounding(node)
            if rounding is not None and rounding.value not in found:
                found[rounding.value] = replace(rounding, name=self._unique(rounding.name))
        return list(found.values())

    def _rounding(self, node: onnx.NodeProto) -> RoundingRule | None:
        if node.op_type == "QuantizeLinear" and not self._is_constant(node.input[0]):
            return self._activation(node)
        if node.op_type == "DequantizeLinear":
            return self._weight(node)
        if node.op_type == "DynamicQuantizeLinear":
            unknown = np.array([np.nan])
            return RoundingRule(self._name(node.input[0]), "dynamic", node.input[0], unknown, unknown, 0, 255)
        if node.op_type in ("ConvInteger", "MatMulInteger"):
            return self._integer_weight(node)
        return None

    def _activation(self, node: onnx.NodeProto) -> RoundingRule | None:
        scale = self._numbers(node.input[1])
        zero_point = self._numbers(node.input[2]) if len(node.input) > 2 else np.zeros(1)
        if scale is None or zero_point is None:
            return None
        kind = self._constants[node.input[2]].data_type if len(node.input) > 2 else 2  # uint8 unless stated
        low, high = whole = self._limits(kind)
        if scale.size == 1:
            low, high = self._narrowed(node, float(scale[0]), float(zero_point[0]), low, high)
        axis = self._attribute(node, "axis", 1) if scale.size > 1 else None
        passed_on = (low, high) == whole and self._on_levels(node.input[0], scale, zero_point)
        return RoundingRule(
            self._name(node.input[0]), "activation", node.input[0], scale, zero_point, low, high, axis,
            passed_on=passed_on, rectified=self._only_rectified(node.output[0]),
        )  # fmt: skip

    def _only_rectified(self, levels: str) -> bool:
        values = [user.output[0] for user in self._users.get(levels, [])]
        users = [user for value in values for user in self._users.get(value, [])]
        return bool(users) and all(user.op_type == "Relu" for user in users)

    def _on_levels(self, value: str, scale: Array, zero_point: Array) -> bool:
        """Return whether `value` consists of numbers that were rounded with this very scale."""
        node = self._producer.get(value)
        if node is None:
            return False
        if node.op_type == "DequantizeLinear":
            before = [self._numbers(name) for name in node.input[1:]]
            return (
                not self._is_constant(node.input[0])
                and before[0] is not None
                and np.array_equal(before[0], scale)
                and (len(before) < 2 or (before[1] is not None and np.array_equal(before[1], zero_point)))
            )
        if node.op_type not in _PASSING:
            return False
        values = node.input[: _PASSING[node.op_type] or None]
        return all(self._on_levels(name, scale, zero_point) for name in values)

    def _narrowed(
        self, node: onnx.NodeProto, scale: float, zero: float, low: int, high: int
    ) -> tuple[int, int]:
        """Return the limits of a Clip right behind the pair: fewer levels than the type has."""
        users = self._users.get(node.output[0], [])
        if len(users) != 1 or users[0].op_type != "DequantizeLinear":
            return low, high
        clips = self._users.get(users[0].output[0], [])
        if len(clips) != 1 or clips[0].op_type != "Clip" or len(clips[0].input) != 3:
            return low, high
        bounds = [self._numbers(name) for name in clips[0].input[1:]]
        if any(bound is None for bound in bounds):
            return low, high
        ends = [round(float(bound[0]) / scale + zero) for bound in bounds if bound is not None]
        return max(low, ends[0]), min(high, ends[1])

    def _weight(self, node: onnx.NodeProto) -> RoundingRule | None:
        """Return a stored weight, or one that is unpacked from other constants; None for an activation."""
        name, steps = node.input[0], self._unpacking(node.input[0])
        if name in self._constants:
            tensor = self._constants[name]
        elif steps:
            tensor, name = self._computed(name, steps), name.rpartition(":")[0] or name
        else:
            return None
        levels = np.asarray(self._array(tensor)).astype(np.int32)
        scale = self._numbers(node.input[1])
        zero_point = self._numbers(node.input[2]) if len(node.input) > 2 else np.zeros(1)
        if scale is None or zero_point is None or levels.ndim < 2:
            return None
        low, high = _in_use(levels, int(zero_point[0]))
        axis = self._attribute(node, "axis", 1) if scale.size > 1 else None
        return RoundingRule(name, "weight", name, scale, zero_point, low, high, axis, levels)

    def _unpacking(self, value: str) -> list[onnx.NodeProto]:
        """Return the nodes that compute `value` from constants, in order; empty if it depends on the input."""
        needed, found = [value], set[str]()
        while needed:
            name = needed.pop()
            node = self._producer.get(name)
            if name in self._constants or not name:
                continue
            if node is None or node.op_type in LAYERS or len(found) > _LONGEST_UNPACKING:
                return []
            if name not in found:  # by what it computes: nodes of other tools may have no names
                found.add(name)
                needed.extend(node.input)
        return [node for node in self._nodes if not found.isdisjoint(node.output)]

    def _computed(self, value: str, steps: list[onnx.NodeProto]) -> onnx.TensorProto:
        """Return what constants come to."""
        from onnx.reference import ReferenceEvaluator

        from onnx import helper, numpy_helper

        used = {name for node in steps for name in node.input}
        graph = helper.make_graph(
            steps, "weight", [], [helper.make_value_info(value, helper.make_tensor_type_proto(3, None))],
            [tensor for name, tensor in self._constants.items() if name in used],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=self._opsets)
        result: Any = ReferenceEvaluator(model).run(None, {})
        return numpy_helper.from_array(np.asarray(result[0]), value)

    def _integer_weight(self, node: onnx.NodeProto) -> RoundingRule | None:
        """Return a weight that an integer operator takes as it is; its scale is multiplied in afterwards."""
        name = node.input[LAYERS[node.op_type]]
        scale = self._scale_behind(node)
        if name not in self._constants or scale is None:
            return None
        tensor = self._constants[name]
        levels = np.asarray(self._array(tensor)).astype(np.int32)
        zero_point = self._numbers(node.input[3]) if len(node.input) > 3 and node.input[3] else np.zeros(1)
        if zero_point is None:
            return None
        low, high = _in_use(levels, int(zero_point[0]))
        along = 0 if node.op_type == "ConvInteger" else levels.ndim - 1
        axis = along if scale.size > 1 else None
        return RoundingRule(name, "weight", name, scale, zero_point, low, high, axis, levels)

    def _scale_behind(self, node: onnx.NodeProto) -> Array | None:
        """Return the constant part of the factor of the result: Cast, then Mul(.., Mul(.., scale))."""
        value = node.output[0]
        for user in self._users.get(value, []):
            if user.op_type == "Cast":
                value = user.output[0]
        for product in self._users.get(value, []):
            others = [name for name in product.input if name != value] if product.op_type == "Mul" else []
            factor = self._producer.get(others[0]) if others else None
            if factor is not None and factor.op_type == "Mul":
                for name in factor.input:
                    if name in self._constants:
                        return self._numbers(name)
        return None

    def _numbers(self, name: str) -> Array | None:
        """Return a constant as a flat array of floats; None if `name` is not one."""
        if name not in self._constants:
            return None
        return np.asarray(self._array(self._constants[name]), dtype=np.float64).reshape(-1)

    def _is_constant(self, name: str) -> bool:
        return name in self._constants

    def _limits(self, data_type: int) -> tuple[int, int]:
        from onnx import TensorProto

        name = TensorProto.DataType.Name(data_type)
        bits = int("".join(c for c in name if c.isdigit()) or 0)
        if not name.startswith(("INT", "UINT")) or bits > 16:
            raise IntegrityError(
                f"The model quantizes to {name.lower()}, which is not an integer type of few bits."
            )
        return (0, 2**bits - 1) if name.startswith("UINT") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def _attribute(self, node: onnx.NodeProto, name: str, default: int) -> int:
        return next((int(a.i) for a in node.attribute if a.name == name), default)

    def _name(self, value: str) -> str:
        """Return the last layer before a value, and the operators since."""
        parts: list[str] = []
        node = self._producer.get(value)
        while node is not None and node.op_type not in LAYERS:
            if node.op_type not in _CODING and not self._narrows(node):
                parts.append(node.op_type)
            value = node.input[0] if node.input else value
            node = self._producer.get(value)
        while node is not None and node.op_type.endswith("Integer") and parts[-1:] in _SCALING:
            parts.pop()
        start = node.name if node is not None else value
        return "/".join([start, *reversed(parts[:_LONGEST])])

    def _narrows(self, node: onnx.NodeProto) -> bool:
        before = self._producer.get(node.input[0]) if node.op_type == "Clip" else None
        return before is not None and before.op_type == "DequantizeLinear"

    def _unique(self, name: str) -> str:
        self._taken[name] += 1
        return name if self._taken[name] == 1 else f"{name}#{self._taken[name]}"


def _in_use(levels: npt.NDArray[np.int32], zero: int) -> tuple[int, int]:
    """Return the lowest and highest level of a weight's width: symmetric, except for a single lowest level."""
    low, high = int(levels.min()) - zero, int(levels.max()) - zero
    largest = max(high, -low, 1)
    alone = low == -largest and high < largest and largest.bit_count() == 1
    most = largest - 1 if alone and largest > 1 else 2 ** largest.bit_length() - 1
    return zero + (low if alone else -most), zero + most
