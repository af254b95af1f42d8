"""The operators on integers that ONNX Runtime adds to the standard, written as the standard says them.

`quantize_static` with the format QOperator writes sums, products and pooling as operators of the domain
`com.microsoft`. Each is exactly a standard operator between DequantizeLinear and QuantizeLinear, from which ONNX
Runtime makes the same operator again when it loads the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_DOMAIN = "com.microsoft"
#: Operators with one input: what they are in the standard.
_UNARY = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearReduceMean": "ReduceMean",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
}
_BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
#: Attributes that only ONNX Runtime's operators have.
_OWN = ("channels_last", "opset")


def to_standard(onnx: Any, model: Any) -> None:
    """Replace the integer operators of ONNX Runtime in a model's main graph; others of its domain stay as they are.

    Args:
        onnx: The package.
        model: A ModelProto, which is changed.
    """
    if not any(node.domain == _DOMAIN for node in model.graph.node):
        return
    rewriter = _Rewriter(onnx, model.graph)
    nodes: list[Any] = []
    for node in model.graph.node:
        made = rewriter.standard(node) if node.domain == _DOMAIN else None
        nodes += [node] if made is None else made
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Rewriter:
    def __init__(self, onnx: Any, graph: Any) -> None:
        self._onnx, self._graph = onnx, graph
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}

    def standard(self, node: Any) -> list[Any] | None:
        """The nodes of the standard that compute what one of ONNX Runtime's does; None if there are none."""
        kind, given = node.op_type, list(node.input)
        if any(each.name == "channels_last" and each.i for each in node.attribute):
            return None
        if kind in ("QuantizeLinear", "DequantizeLinear"):
            plain = self._onnx.helper.make_node(kind, given, list(node.output), name=node.name)
            plain.attribute.extend(node.attribute)
            return [plain]
        if kind in _UNARY:
            return self._between(node, _UNARY[kind], [given[:3]], given[3:5])
        if kind in _BINARY:
            return self._between(node, _BINARY[kind], [given[:3], given[3:6]], given[6:8])
        if kind == "QLinearConcat":
            operands = [given[place : place + 3] for place in range(2, len(given), 3)]
            return self._between(node, "Concat", operands, given[:2])
        return self._linear(node, given) if kind == "QGemm" else None

    def _linear(self, node: Any, given: list[str]) -> list[Any] | None:
        """A product with a matrix whose columns may have scales of their own, and a bias in int32."""
        across = next((each.i for each in node.attribute if each.name == "transB"), 0)
        operands, bias = [given[:3], given[3:6]], given[6] if len(given) > 6 else ""
        if bias:
            if not {given[1], given[4]} <= self._constants.keys():
                return None
            left, right = (
                self._onnx.numpy_helper.to_array(self._constants[given[place]]) for place in (1, 4)
            )
            name = self._free(f"{bias}_scale")
            self._graph.initializer.append(self._onnx.numpy_helper.from_array(np.asarray(left * right), name))
            operands.append([bias, name])
        return self._between(node, "Gemm", operands, given[7:9], axes=[0, 0 if across else 1, 0])

    def _between(
        self,
        node: Any,
        operator: str,
        operands: list[list[str]],
        result: list[str],
        axes: list[int] | None = None,
    ) -> list[Any]:
        """An operator on floats that are made of integers, and become integers again where `result` says how."""
        make, last = self._onnx.helper.make_node, node.output[0]
        nodes, floats = [], []
        for place, operand in enumerate(operands):
            name = self._free(f"{last}_float_{place}")
            axis = {} if axes is None else {"axis": axes[place]}
            nodes.append(make("DequantizeLinear", operand, [name], name=name, **axis))
            floats.append(name)
        computed = self._free(f"{last}_computed") if result else last
        middle = make(operator, floats, [computed], name=node.name or f"{operator}_{computed}")
        middle.attribute.extend(each for each in node.attribute if each.name not in _OWN)
        nodes.append(middle)
        return [*nodes, make("QuantizeLinear", [computed, *result], [last])] if result else nodes

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name
