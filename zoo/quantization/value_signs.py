"""Which tensors of a traced graph cannot be negative, whatever the input."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from zoo.quantization.constant_operands import TimesConstant
from zoo.quantization.lowering import GlobalAveragePool, Unfused, argument
from zoo.quantization.operator_roles import OperatorRole, is_float_tensor, role_of

#: Results are at least 0.
_NONNEGATIVE_MODULES = (
    nn.ReLU, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softmax2d, nn.Softplus,
)  # fmt: skip
_NONNEGATIVE_FUNCTIONS: frozenset[Any] = frozenset(
    {
        F.relu, torch.relu, F.relu6, torch.sigmoid, F.sigmoid, F.hardsigmoid, torch.softmax, F.softmax, F.softplus,
        torch.abs, torch.square, torch.exp, torch.sqrt, "relu", "sigmoid", "softmax", "abs", "square", "exp", "sqrt",
    }
)  # fmt: skip
#: Results are at least 0 if all inputs are.
_KEEPING_MODULES = (
    nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.LPPool2d, nn.Dropout, nn.UpsamplingBilinear2d, GlobalAveragePool, Unfused,
    TimesConstant,
)  # fmt: skip
_KEEPING_FUNCTIONS: frozenset[Any] = frozenset(
    {
        operator.add, operator.mul, torch.add, torch.mul, torch.minimum, torch.mean, torch.sum, torch.amax,
        torch.amin, F.avg_pool2d, F.adaptive_avg_pool2d, "add", "mul", "mean", "sum", "amax", "amin",
    }
)  # fmt: skip
#: Interpolation whose results lie between the values it is given; cubic ones overshoot.
_WITHIN = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "area")


def nonnegative_nodes(module: fx.GraphModule) -> set[fx.Node]:
    """Return the nodes whose values cannot be less than 0; the graph's shapes must have been propagated."""
    found: set[fx.Node] = set()
    for node in module.graph.nodes:
        role = role_of(node, module)
        if role in (OperatorRole.NOTHING, OperatorRole.SOURCE, OperatorRole.WEIGHTED):
            continue
        tensors = [source for source in node.all_input_nodes if is_float_tensor(source)]
        keeps = role in (OperatorRole.PASS, OperatorRole.JOIN) or _keeps_sign(node, module)
        values = (*node.args, node.kwargs.get("other"))
        numbers = [value for value in values if isinstance(value, (int, float))]
        if _is_rectifying(node, module) or (
            keeps and tensors and found.issuperset(tensors) and min(numbers, default=0) >= 0
        ):
            found.add(node)
    return found


def _is_rectifying(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        child = module.get_submodule(str(node.target))
        if isinstance(child, nn.Hardtanh):  # ReLU6 is one
            return bool(child.min_val >= 0)
        return isinstance(child, _NONNEGATIVE_MODULES)
    if node.target in _NONNEGATIVE_FUNCTIONS:
        return True
    lowest: Any = None
    if node.target in (torch.clamp, torch.clip, "clamp", "clip"):
        lowest = argument(node, 1, "min")
    elif node.target is F.hardtanh:
        lowest = argument(node, 1, "min_val")
    return isinstance(lowest, (int, float)) and lowest >= 0


def _keeps_sign(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        child = module.get_submodule(str(node.target))
        return isinstance(child, _KEEPING_MODULES) or (
            isinstance(child, nn.Upsample) and child.mode in _WITHIN
        )
    if node.target is F.interpolate:
        return (argument(node, 3, "mode") or "nearest") in _WITHIN
    return node.target in _KEEPING_FUNCTIONS and bool(node.kwargs.get("alpha", 1) == 1)
