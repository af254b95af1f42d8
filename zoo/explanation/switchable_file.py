"""An int8 file each of whose quantizers can be switched off, in copies that the engine runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import UsageError
from zoo.explanation.quantized_tensors import LAYERS, parse_onnx, quantized_tensors

if TYPE_CHECKING:
    import numpy.typing as npt

    import onnx
    from zoo.explanation.rounding_rule import RoundingRule

    Weights = Mapping[str, npt.NDArray[np.float32]]

#: From this version on, the limits of Clip are inputs.
_CLIP_WITH_INPUTS = 11
#: Where hard-sigmoid (slope 1, and 1/5 behind what is added to its input) and ReLU6 end, and how far, relatively, the
#: last level of a range may be from that.
_BOUNDS, _CLOSE = (1.0, 5.0, 6.0), 0.005
#: A range of fewer levels than an integer of 8 bits has is followed by a Clip.
_LEVELS = 256
#: What other tools append to the name of a weight that they quantize.
_SUFFIXES = ("_quantized", "_scaled")


@dataclass(frozen=True)
class Quantizer:
    """A place where values are rounded, with those that only pass its levels on.

    Attributes:
        rule: How it rounds.
        layer: The layer that computes the values, or whose weight it is; "input" for the network's input.
        can_switch: False for weights whose float values are not known: they stay as they are.
        readers: The layers that compute with the rounded values.
    """

    rule: RoundingRule
    layer: str
    can_switch: bool = True
    readers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name as `zoo explain` shows it."""
        return self.rule.name

    @property
    def is_weight(self) -> bool:
        """Return whether it rounds a weight."""
        return self.rule.kind == "weight"


class SwitchableFile:
    """The quantizers of a file in the order of computation, and copies in which some are off.

    A weight that is off has the float values of `weights`. An activation that is off passes as it is, except for what
    the range has in place of an activation function: nothing below a range from zero up, and nothing above its end
    where ReLU6 or a hard-sigmoid ends there. With `keep_ranges`, every range stays: a network trained with it counts
    on it.

    Args:
        data: The file.
        weights: Float weights by name, (out, in, ...), in the file's layout or transposed.
        keep_ranges: Whether values beyond a range are still cut off.

    Raises:
        UsageError: The file computes in integers, or its ranges are those of run time.
    """

    def __init__(self, data: bytes, weights: Weights, *, keep_ranges: bool = False) -> None:
        self._model = parse_onnx(data)
        self._keep_ranges = keep_ranges
        self._constants = {tensor.name for tensor in self._model.graph.initializer}
        self._producer = {name: node for node in self._model.graph.node for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in self._model.graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        rules = quantized_tensors(data)
        _check_form(self._model, rules)
        self._weights = {
            rule.value: weight
            for rule in rules
            if rule.kind == "weight" and (weight := _float_weight(rule, weights)) is not None
        }
        self._rules = {rule.value: rule for rule in rules}
        self.quantizers = [
            Quantizer(
                rule, self._layer(rule), rule.kind != "weight" or rule.value in self._weights, self._readers(rule)
            )
            for rule in rules
            if not rule.passed_on
        ]  # fmt: skip

    def file(self, off: Collection[str]) -> bytes:
        """Return a copy in which the quantizers of these names are off."""
        from onnx import helper

        names = set(off)
        values = {rule.value for rule in self._rules.values() if rule.name in names and not rule.passed_on}
        values |= {
            rule.value
            for rule in self._rules.values()
            if rule.passed_on and self._origins(rule.value) & values
        }
        model = type(self._model)()
        model.CopyFrom(self._model)
        graph, nodes = model.graph, []
        narrowing = set[str]()
        for node in graph.node:
            rule = self._rule_of(node)
            if node.op_type == "Clip" and node.input[0] in narrowing and not self._keep_ranges:
                nodes.append(helper.make_node("Identity", [node.input[0]], list(node.output), node.name))
            elif rule is None or rule.value not in values:
                nodes.append(node)
            elif rule.kind == "weight":
                nodes.append(self._float_constant(graph, node, rule))
            else:
                nodes += self._passing(graph, node, rule)
                if rule.high - rule.low < _LEVELS - 1:
                    narrowing.add(node.output[0])
        kept = _needed(nodes, {output.name for output in graph.output})
        del graph.node[:]
        graph.node.extend(kept)
        data: bytes = model.SerializeToString()
        return data

    # -------------------------------------------------------------------------------------------- nodes

    def _rule_of(self, node: onnx.NodeProto) -> RoundingRule | None:
        """Return the rule that a DequantizeLinear completes."""
        if node.op_type != "DequantizeLinear":
            return None
        before = self._producer.get(node.input[0])
        if before is not None and before.op_type == "QuantizeLinear":
            return self._rules.get(before.input[0])
        return self._rules.get(node.input[0]) or self._rules.get(node.input[0].rpartition(":")[0])

    def _float_constant(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, rule: RoundingRule
    ) -> onnx.NodeProto:
        from onnx import helper, numpy_helper

        name = f"{node.output[0]} in float"
        graph.initializer.append(numpy_helper.from_array(self._weights[rule.value], name))
        return helper.make_node("Identity", [name], list(node.output), node.name)

    def _passing(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, rule: RoundingRule
    ) -> list[onnx.NodeProto]:
        """Return what has the values before the rounding as its output."""
        from onnx import helper, numpy_helper

        value, output = self._producer[node.input[0]].input[0], node.output[0]
        low, high = rule.reach
        rectified = low == 0
        if not self._keep_ranges and not rectified:
            return [helper.make_node("Identity", [value], [output], node.name)]
        if not self._keep_ranges and all(abs(high - bound) > _CLOSE * bound for bound in _BOUNDS):
            return [helper.make_node("Relu", [value], [output], node.name)]
        version = next(
            (each.version for each in self._model.opset_import if each.domain in ("", "ai.onnx")), 0
        )
        if version < _CLIP_WITH_INPUTS:
            return [helper.make_node("Clip", [value], [output], node.name, min=low, max=high)]
        bounds = [f"{output} least", f"{output} largest"]
        for name, bound in zip(bounds, (low, high), strict=True):
            graph.initializer.append(numpy_helper.from_array(np.array(bound, np.float32), name))
        return [helper.make_node("Clip", [value, *bounds], [output], node.name)]

    # ------------------------------------------------------------------------------------------- places

    def _origins(self, value: str) -> set[str]:
        """Return the values whose levels a tensor passes on."""
        found, waiting = set[str](), [value]
        while waiting:
            name = waiting.pop()
            rule = self._rules.get(name)
            if rule is not None and not rule.passed_on:
                found.add(name)
                continue
            node = self._producer.get(name)
            waiting += (
                [each for each in node.input if each not in self._constants] if node is not None else []
            )
        return found

    def _layer(self, rule: RoundingRule) -> str:
        if rule.kind == "weight":
            return next(iter(self._readers(rule)), rule.name)
        value = rule.value
        node = self._producer.get(value)
        while node is not None and node.op_type not in LAYERS:
            value = next((name for name in node.input if name not in self._constants), "")
            node = self._producer.get(value)
        return "input" if node is None else str(node.name or node.output[0])

    def _readers(self, rule: RoundingRule) -> tuple[str, ...]:
        """Return the layers next behind a rounding, in order."""
        waiting = [node for node in self._model.graph.node if self._rule_of(node) is rule]
        found: dict[str, None] = {}
        seen = {node.output[0] for node in waiting}
        for node in waiting:
            if node.op_type in LAYERS:
                found[str(node.name or node.output[0])] = None
                continue
            users = [user for name in node.output for user in self._users.get(name, [])]
            waiting += [user for user in users if user.output[0] not in seen]
            seen.update(user.output[0] for user in users)
        return tuple(found)


def _needed(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that the outputs depend on, in order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _float_weight(rule: RoundingRule, weights: Weights) -> npt.NDArray[np.float32] | None:
    """Return the float form of a weight in the layout of its levels; None if `weights` has none that fits."""
    assert rule.levels is not None
    names = [rule.value, *(rule.value.removesuffix(suffix) for suffix in _SUFFIXES)]
    for weight in (weights[name] for name in names if name in weights):
        for each in (weight, weight.T):
            if each.shape == rule.levels.shape:
                return np.ascontiguousarray(each, dtype=np.float32)
    return None


def _check_form(model: onnx.ModelProto, rules: list[RoundingRule]) -> None:
    operators = {node.op_type for node in model.graph.node}
    if "DynamicQuantizeLinear" in operators:
        raise UsageError(
            "--effect needs ranges that are fixed in the file; here those of activations are found at run time.",
            hint="Quantize it with fixed ranges (zoo apply ptq ...), or leave --effect out.",
        )
    integers = sorted(name for name in operators if name.startswith("QLinear") or name.endswith("Integer"))
    if integers:
        raise UsageError(
            f"--effect switches pairs of QuantizeLinear and DequantizeLinear; this file computes by {integers[0]}.",
            hint="Write it in the QDQ form:  quantize_static(..., quant_format=QuantFormat.QDQ)",
        )
    if not rules:
        raise UsageError(
            "The file has no quantized tensors.", hint="Make one that has:  zoo apply ptq ARCHITECTURE"
        )
