"""What each node of a traced graph is to quantization."""

from __future__ import annotations

import operator
from collections.abc import Callable
from enum import Enum
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from zoo.modules.same_padding import SamePad2d
from zoo.modules.several_inputs import divides_inputs, is_input_part
from zoo.quantization.constant_operands import PlusConstant, TimesConstant
from zoo.quantization.fold import ShiftedRelu
from zoo.quantization.lowering import DepthToSpace, GlobalAveragePool, Pad, argument, divides_unevenly
from zoo.quantization.quantized_layers import QuantConv2d, QuantLinear


class OperatorRole(Enum):
    """How a node's values relate to its inputs' levels."""

    #: not a floating-point tensor: shapes, indices
    NOTHING = "nothing"
    #: the network's input, or a constant
    SOURCE = "source"
    #: a convolution or linear layer with fake-quantized weights
    WEIGHTED = "weighted"
    #: computed in int8, with levels of its own for the result
    INTEGER = "integer"
    #: the result's values are among its input's: max-pooling, reshaping
    PASS = "pass"
    #: rectification: rounding before or after it comes to the same
    RECTIFY = "rectify"
    #: concatenation: all inputs and the result share their levels
    JOIN = "join"
    #: engines compute it in float
    FLOAT = "float"


_PASS_MODULES = (
    nn.MaxPool2d, nn.AdaptiveMaxPool2d, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Flatten,
    nn.Unflatten, nn.Identity, nn.ZeroPad2d, SamePad2d, nn.ReflectionPad2d, nn.ReplicationPad2d,
    nn.UpsamplingNearest2d, Pad, DepthToSpace,
)  # fmt: skip
_PASS_FUNCTIONS: frozenset[Any] = frozenset(
    {
        F.max_pool2d, torch.max_pool2d, F.adaptive_max_pool2d, F.pixel_shuffle, F.pixel_unshuffle,
        F.channel_shuffle, torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze,
        torch.unsqueeze, torch.chunk, torch.split, torch.unbind, torch.narrow, torch.roll, torch.flip, operator.getitem,
    }
)  # fmt: skip
_PASS_METHODS = frozenset(
    {
        "flatten", "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "chunk",
        "split", "unbind", "narrow", "roll", "flip", "expand", "repeat", "clone",
    }
)  # fmt: skip
_INTEGER_MODULES = (
    nn.LeakyReLU, nn.Sigmoid, nn.AvgPool2d, GlobalAveragePool, PlusConstant, TimesConstant,
)  # fmt: skip
_INTEGER_FUNCTIONS: frozenset[Any] = frozenset({F.leaky_relu, torch.sigmoid, F.sigmoid, F.avg_pool2d})
_PAIRWISE: frozenset[Any] = frozenset({operator.add, operator.mul, torch.add, torch.mul, "add", "mul"})
_JOIN: frozenset[Any] = frozenset({torch.cat, torch.concat, torch.concatenate})


def is_float_tensor(node: fx.Node) -> bool:
    """Return whether the node's value is a floating-point tensor, or a sequence of them."""
    meta = node.meta.get("tensor_meta")
    if isinstance(meta, (tuple, list)) and not hasattr(meta, "dtype"):
        return bool(meta) and all(getattr(m, "dtype", None) and m.dtype.is_floating_point for m in meta)
    return meta is not None and meta.dtype.is_floating_point


def gives_sequence(node: fx.Node) -> bool:
    """Return whether the node's value is several tensors (chunk, split)."""
    return not hasattr(node.meta.get("tensor_meta"), "dtype")


def role_of(node: fx.Node, module: fx.GraphModule) -> OperatorRole:
    """Return the role of a node; its shapes must have been propagated."""
    if node.op == "output" or not is_float_tensor(node) or divides_inputs(node, module):
        return OperatorRole.NOTHING
    if node.op in ("placeholder", "get_attr") or is_input_part(node, module):
        return OperatorRole.SOURCE
    if node.op == "call_module":
        return _kind_of_module(module.get_submodule(str(node.target)), node)
    if node.op == "call_method":
        if node.target in _PASS_METHODS:
            return OperatorRole.PASS
        return _kind_of_function(str(node.target), node, module)
    return _kind_of_function(node.target, node, module)


def _kind_of_module(child: nn.Module, node: fx.Node) -> OperatorRole:
    if isinstance(child, (QuantConv2d, QuantLinear)):
        return OperatorRole.WEIGHTED
    if isinstance(child, nn.ReLU) or (isinstance(child, nn.Hardtanh) and child.min_val == 0):
        return OperatorRole.RECTIFY  # ReLU6 is a Hardtanh
    if isinstance(child, ShiftedRelu):
        return OperatorRole.RECTIFY
    if isinstance(child, nn.AvgPool2d) and divides_unevenly(node, child):
        return OperatorRole.FLOAT
    if isinstance(child, _INTEGER_MODULES):
        return OperatorRole.INTEGER
    if isinstance(child, _PASS_MODULES) or (isinstance(child, nn.Upsample) and child.mode == "nearest"):
        return OperatorRole.PASS
    return OperatorRole.FLOAT


def _kind_of_function(
    target: str | Callable[..., Any], node: fx.Node, module: fx.GraphModule
) -> OperatorRole:
    if target in _PASS_FUNCTIONS or target in _JOIN:
        # Tensors that come several at once are rounded one by one, or where they came from.
        parts = [source for source in node.all_input_nodes if gives_sequence(source)]
        if any(role_of(source, module) is OperatorRole.FLOAT for source in parts):
            return OperatorRole.FLOAT
        return OperatorRole.JOIN if target in _JOIN else OperatorRole.PASS
    if target in (F.relu, torch.relu, F.relu6, "relu"):
        return OperatorRole.RECTIFY
    if target in (torch.clamp, torch.clip, "clamp", "clip") and argument(node, 1, "min") == 0:
        return OperatorRole.RECTIFY
    if target is F.hardtanh and argument(node, 1, "min_val") == 0:
        return OperatorRole.RECTIFY
    if target in _PAIRWISE:
        # Engines take two activations; a learned constant would have to be stored in int8 for each of them.
        tensors = [
            a for a in node.args if isinstance(a, fx.Node) and is_float_tensor(a) and a.op != "get_attr"
        ]
        return OperatorRole.INTEGER if len(tensors) == 2 and not node.kwargs else OperatorRole.FLOAT
    if target is F.avg_pool2d and divides_unevenly(node):
        return OperatorRole.FLOAT
    if target in _INTEGER_FUNCTIONS or target == "sigmoid":
        return OperatorRole.INTEGER
    if target is F.interpolate and (argument(node, 3, "mode") or "nearest") == "nearest":
        return OperatorRole.PASS
    if target is F.pad and node.kwargs.get("value", 0) in (0, None) and len(node.args) < 4:
        return OperatorRole.PASS
    return OperatorRole.FLOAT


def is_plain_relu(node: fx.Node, module: fx.GraphModule) -> bool:
    """Return whether a node is a ReLU without an upper bound."""
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), nn.ReLU)
    return getattr(node.target, "__name__", node.target) == "relu"


def upper_bound(node: fx.Node, module: fx.GraphModule) -> float | None:
    """Return the largest value that a rectification lets pass; None if there is no bound."""
    if node.op == "call_module":
        child = module.get_submodule(str(node.target))
        return float(child.max_val) if isinstance(child, nn.Hardtanh) else None
    if node.target is F.relu6:
        return 6.0
    largest = argument(node, 2, "max_val" if node.target is F.hardtanh else "max")
    return float(largest) if isinstance(largest, (int, float)) else None
