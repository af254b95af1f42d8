"""Tensors that levels cannot hold: those in which some values stand for minus infinity.

Attention excludes positions by adding a large negative number to their scores. A range that reaches there rounds all
other scores to zero, and one that does not lets the excluded positions take part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from zoo.quantization.operator_roles import OperatorRole, role_of
from zoo.surgery import evaluating, on_device_of

#: Values from here on may stand for infinity.
_LARGE = 1e3
#: Share of the largest magnitude that all others are below if it stands for infinity: a few levels of an int8 range.
_OTHERS = 1 / 32
#: Those that stand for infinity are equal but for what they were added to, and are not single outliers.
_ALIKE, _LEAST_SHARE = 0.99, 1e-3
_SOFTMAX: frozenset[Any] = frozenset(
    {F.softmax, torch.softmax, F.log_softmax, torch.log_softmax, "softmax", "log_softmax"}
)
#: What lies between scores and their softmax: adding masks and biases, and moving values.
_BETWEEN = (OperatorRole.PASS, OperatorRole.INTEGER, OperatorRole.FLOAT)


def masked_nodes(module: fx.GraphModule, example: Tensor) -> set[fx.Node]:
    """Return the nodes whose values cannot be rounded to levels, on an example input, and the scores of a softmax.

    Args:
        module: A traced network whose shapes have been propagated.
        example: An input, (N, C, H, W).
    """
    finder = _Finder(module)
    with evaluating(module):
        finder.run(on_device_of(module, example))
    return finder.found | _scores(module)


def holds_infinity(values: Tensor) -> bool:
    """Return whether some values of a tensor are infinite, or stand for infinity beside the others.

    Args:
        values: (N, ...).
    """
    magnitudes = values.detach().abs()
    if not magnitudes.numel():
        return False
    largest = float(magnitudes.max())
    if largest != largest or largest == float("inf"):
        return True
    if largest < _LARGE:
        return False
    alike = magnitudes > largest * _ALIKE
    others = magnitudes[~alike]
    return (
        bool((others > 0).any())
        and float(others.max()) < largest * _OTHERS
        and float(alike.float().mean()) >= _LEAST_SHARE
    )


class _Finder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point() and holds_infinity(value):
            self.found.add(n)
        return value


def _scores(module: fx.GraphModule) -> set[fx.Node]:
    """The nodes whose values go to a softmax only, back to the layers or products that compute them."""
    found: set[fx.Node] = set()
    for node in reversed(list(module.graph.nodes)):
        ends = [user in found or _is_softmax(user, module) for user in node.users]
        if ends and all(ends) and role_of(node, module) in _BETWEEN:
            found.add(node)
    return found


def _is_softmax(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), (nn.Softmax, nn.LogSoftmax))
    return node.target in _SOFTMAX
