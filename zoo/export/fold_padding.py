"""Padding with zeros done by the convolution that reads it, where engines need no operator for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.onnx.nested_graphs import every_graph, every_node

if TYPE_CHECKING:
    import onnx


def fold_padding(graph: onnx.GraphProto) -> None:
    """Add what each Pad puts around height and width to the convolutions that read it; no number changes.

    A pair of nodes that quantizes the padded values goes as well: they lie on the levels of what was padded, and zero
    is one of them. A Pad that anything else reads stays.
    """
    _Folding(graph).run()


class _Folding:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._outputs = {value.name for each in every_graph(graph) for value in each.output}
        self._producer = {name: node for node in graph.node for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in every_node(graph):
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def run(self) -> None:
        gone: set[str] = set()
        for pad in self._graph.node:
            sides = self._sides(pad) if pad.op_type == "Pad" else None
            if sides is None:
                continue
            between = self._requantizing(pad)
            value = between[-1].output[0] if between else pad.output[0]
            convolutions = self._users.get(value, [])
            if (
                value in self._outputs
                or not convolutions
                or not all(self._can_pad(node, value, len(sides) // 2) for node in convolutions)
            ):
                continue
            for node in convolutions:
                _add_padding(node, sides)
                node.input[0] = pad.input[0]
            gone.update(node.output[0] for node in (pad, *between))
        kept = [node for node in self._graph.node if not node.output or node.output[0] not in gone]
        del self._graph.node[:]
        self._graph.node.extend(kept)

    def _sides(self, pad: onnx.NodeProto) -> list[int] | None:
        """How much a Pad adds before and after each axis but the first two; None unless it adds zeros, there only."""
        from onnx import helper, numpy_helper

        inputs = [*pad.input, "", "", ""]
        mode = next((helper.get_attribute_value(a) for a in pad.attribute if a.name == "mode"), b"constant")
        if mode != b"constant" or inputs[3] or inputs[1] not in self._constants:
            return None
        if inputs[2] and (
            inputs[2] not in self._constants or numpy_helper.to_array(self._constants[inputs[2]]).any()
        ):
            return None
        amounts = [int(value) for value in numpy_helper.to_array(self._constants[inputs[1]]).ravel()]
        axes = len(amounts) // 2
        first = amounts[:2] + amounts[axes : axes + 2]
        if axes < 3 or any(first) or min(amounts) < 0:
            return None
        return amounts[2:axes] + amounts[axes + 2 :]

    def _requantizing(self, pad: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The pair behind a Pad that rounds to the levels on which its values lie already; empty if there is none."""
        before = self._producer.get(pad.input[0])
        users = self._users.get(pad.output[0], [])
        if before is None or before.op_type != "DequantizeLinear" or pad.output[0] in self._outputs:
            return []
        if [user.op_type for user in users] != ["QuantizeLinear"] or users[0].input[1:] != before.input[1:]:
            return []
        after = self._users.get(users[0].output[0], [])
        if [user.op_type for user in after] != ["DequantizeLinear"] or after[0].input[1:] != before.input[1:]:
            return []
        return [users[0], after[0]] if users[0].output[0] not in self._outputs else []

    def _can_pad(self, node: onnx.NodeProto, value: str, axes: int) -> bool:
        from onnx import helper

        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return (
            node.op_type == "Conv"
            and list(node.input).count(value) == 1
            and node.input[0] == value
            and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
            and len(attributes.get("pads", [0] * 2 * axes)) == 2 * axes
        )


def _add_padding(node: onnx.NodeProto, sides: list[int]) -> None:
    from onnx import helper

    old = next((attribute for attribute in node.attribute if attribute.name == "pads"), None)
    pads = [0] * len(sides) if old is None else list(old.ints)
    if old is not None:
        node.attribute.remove(old)
    node.attribute.append(helper.make_attribute("pads", [a + b for a, b in zip(pads, sides, strict=True)]))
