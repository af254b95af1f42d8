"""Activations rewritten as operators that engines compute in int8; every rewrite is exact.

ONNX Runtime has integer kernels for sums, products and convolutions, and clipping at the ends of a quantized range
costs nothing. Left as they are, hard-swish, hard-sigmoid and PReLU are computed in float, between a dequantization and
a quantization.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn import functional as F

from zoo.quantization.constant_operands import PlusConstant, TimesConstant
from zoo.quantization.fold import scale_and_shift
from zoo.quantization.lowering import GlobalAveragePool
from zoo.quantization.operator_roles import OperatorRole, is_float_tensor, is_plain_relu, role_of, upper_bound
from zoo.surgery import calls_of, is_plain, layer_of, replace_named, unused_name

_SUMS: frozenset[Any] = frozenset({operator.add, torch.add, "add"})
_PRODUCTS: frozenset[Any] = frozenset({operator.mul, torch.mul, "mul"})
_QUOTIENTS: frozenset[Any] = frozenset({operator.truediv, torch.div, "div"})
#: Multiplied input gives the result multiplied by the same.
_HOMOGENEOUS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.LeakyReLU, GlobalAveragePool)


@dataclass(frozen=True)
class _ClippedLine:
    """slope * x + offset, clipped to [0, top]; slope and top are positive."""

    x: fx.Node
    slope: float
    offset: float
    top: float


def lower_activations(module: fx.GraphModule, *, per_channel: bool = True) -> None:
    """Rewrite activations as sums, products, convolutions and clips, in place.

    - hard-swish: the input times its hard-sigmoid;
    - hard-sigmoid, and every ``f * clamp(a * x + b, 0, c)``: a clip, with the line before it made part of the layer
      before, if nothing else reads that; otherwise a number is added, the sum clipped, and the factor made part of the
      layers behind, or, if there are others behind, multiplied;
    - PReLU with one slope: LeakyReLU;
    - PReLU with a slope s <= 1 for each channel: ``x + relu((s - 1) * x)``, whose product is a depthwise 1 x 1
      convolution that ends in a ReLU.

    Args:
        module: A traced network whose shapes were propagated.
        per_channel: Whether weights will have a scale for each channel, without which slopes would be rounded.
    """
    for node in list(module.graph.nodes):
        layer = layer_of(module, node)
        if isinstance(layer, nn.Hardswish) or node.target is F.hardswish:
            _lower_hard_swish(module, node)
        elif isinstance(layer, nn.Hardsigmoid) or node.target is F.hardsigmoid:
            line = _ClippedLine(cast(fx.Node, node.args[0]), 1 / 6, 0.5, 1.0)
            _lower_clipped_line(module, node, line)
        elif isinstance(layer, nn.PReLU):
            _lower_prelu(module, node, layer, per_channel=per_channel)
        elif role_of(node, module) is OperatorRole.RECTIFY:
            _lower_written_out(module, node)
    module.delete_all_unused_submodules()
    module.recompile()


def _lower_hard_swish(module: fx.GraphModule, node: fx.Node) -> None:
    x = cast(fx.Node, node.args[0])
    with module.graph.inserting_before(node):
        gate = _new(module, node, F.hardsigmoid, x)
        product = _new(module, node, torch.mul, x, gate)
    _replace(module, node, product)
    _lower_clipped_line(module, gate, _ClippedLine(x, 1 / 6, 0.5, 1.0))


def _lower_written_out(module: fx.GraphModule, clip: fx.Node) -> None:
    """Lower a clip at 0 and a bound if a line goes in, or a factor follows, as in ``relu6(x + 3) / 6``."""
    top = upper_bound(clip, module)
    x, slope, offset = cast(fx.Node, clip.args[0]), 1.0, 0.0
    while len(x.users) == 1 and (step := _line(x)) is not None:
        x, factor, added = step
        offset += slope * added
        slope *= factor
    if top is None or slope <= 0 or offset == 0:
        return
    end = next(iter(clip.users)) if len(clip.users) == 1 else clip
    behind = _line(end)
    if behind is None or behind[1] <= 0 or behind[2] != 0:
        end, factor = clip, 1.0
    else:
        factor = behind[1]
    line = _ClippedLine(x, slope * factor, offset * factor, top * factor)
    _lower_clipped_line(module, end, line)


def _line(node: fx.Node) -> tuple[fx.Node, float, float] | None:
    """What a node computes as factor * source + number: (source, factor, number); None if it is no such line."""
    if node.op not in ("call_function", "call_method") or len(node.args) != 2 or node.kwargs:
        return None
    one, other = node.args
    if isinstance(other, fx.Node) and node.target in _SUMS | _PRODUCTS:
        one, other = other, one
    if not isinstance(one, fx.Node) or isinstance(other, bool) or not isinstance(other, (int, float)):
        return None
    if not is_float_tensor(one):
        return None
    if node.target in _SUMS:
        return one, 1.0, float(other)
    if node.target in _PRODUCTS:
        return one, float(other), 0.0
    return (one, 1 / other, 0.0) if node.target in _QUOTIENTS and other else None


def _lower_clipped_line(module: fx.GraphModule, node: fx.Node, line: _ClippedLine) -> None:
    layer = layer_of(module, line.x)
    with module.graph.inserting_before(node):
        if (
            layer is not None
            and is_plain(layer)
            and _leads_only_to(line.x, node)
            and _called_once(module, line.x)
        ):
            scale_and_shift(layer, line.slope, line.offset)
            _replace(module, node, _new(module, node, F.hardtanh, line.x, 0.0, line.top))
            return
        moved = _call(module, node, "shift", PlusConstant(line.offset / line.slope), line.x)
        clipped = _new(module, node, F.hardtanh, moved, 0.0, line.top / line.slope)
        _replace(module, node, clipped)
    behind = _layers_behind(module, clipped)
    if behind is not None:
        for each in behind:
            with torch.no_grad():
                each.weight.mul_(line.slope)  # type: ignore[operator]
        return
    with module.graph.inserting_after(clipped):
        scaled = _call(module, clipped, "scaled", TimesConstant(line.slope), clipped)
    clipped.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)


def _leads_only_to(source: fx.Node, end: fx.Node) -> bool:
    """Whether `end` is computed from `source`, and nothing else reads that or what lies between."""
    node = source
    while node is not end:
        if len(node.users) != 1:
            return False
        node = next(iter(node.users))
    return True


def _called_once(module: fx.GraphModule, node: fx.Node) -> bool:
    layer = layer_of(module, node)
    return layer is not None and len(calls_of(module, layer)) == 1


def _layers_behind(module: fx.GraphModule, node: fx.Node) -> list[nn.Module] | None:
    """The layers that can take a factor of a node's value into their weights; None if something else reads the value.

    Operators on the way there give the same multiple of their result.
    """
    found: list[nn.Module] = []
    scaled, left = {node}, [node]
    while left:
        for user in left.pop().users:
            layer = layer_of(module, user)
            if layer is not None and is_plain(layer):
                if not _called_once(module, user):
                    return None
                found.append(layer)
            elif user.op == "output" or not _is_homogeneous(module, user):
                return None
            elif user not in scaled:
                scaled.add(user)
                left.append(user)
    products = [each for each in scaled if each.target in _PRODUCTS]
    if any(
        len(scaled.intersection(each.all_input_nodes)) != 1 or len(each.all_input_nodes) != 2
        for each in products
    ):
        return None
    return list(dict.fromkeys(found))


def _is_homogeneous(module: fx.GraphModule, node: fx.Node) -> bool:
    layer = layer_of(module, node)
    if layer is not None and isinstance(layer, _HOMOGENEOUS):
        return True
    if layer is None and node.target in _PRODUCTS:
        return True
    role = role_of(node, module)
    return role is OperatorRole.PASS or (role is OperatorRole.RECTIFY and is_plain_relu(node, module))


def _lower_prelu(module: fx.GraphModule, node: fx.Node, layer: nn.PReLU, *, per_channel: bool) -> None:
    slopes = layer.weight.detach()
    x = cast(fx.Node, node.args[0])
    if bool((slopes == slopes[0]).all()):
        replace_named(module, str(node.target), nn.LeakyReLU(float(slopes[0])))
        return
    if (
        not per_channel
        or float(slopes.max()) > 1
        or len(x.meta["tensor_meta"].shape) != 4
        or not _called_once(module, node)
    ):
        return
    channels = slopes.numel()
    conv = nn.Conv2d(channels, channels, 1, groups=channels, bias=False, device="meta")
    conv.weight = nn.Parameter((slopes - 1).view(-1, 1, 1, 1).clone())
    replace_named(module, str(node.target), conv.eval())
    with module.graph.inserting_after(node):
        below = _new(module, node, F.relu, node)
    with module.graph.inserting_after(below):
        total = _new(module, node, torch.add, x, below)
    node.replace_all_uses_with(total, delete_user_cb=lambda user: user is not below)


def _new(module: fx.GraphModule, like: fx.Node, function: Callable[..., Any], *args: Any) -> fx.Node:
    """A new call with the shape that another node's value has."""
    new = module.graph.call_function(function, args)
    new.meta = dict(like.meta)
    return new


def _call(module: fx.GraphModule, like: fx.Node, suffix: str, layer: nn.Module, x: fx.Node) -> fx.Node:
    name = unused_name(module, f"{like.name}_{suffix}")
    module.add_submodule(name, layer)
    new = module.graph.call_module(name, (x,))
    new.meta = dict(like.meta)
    return new


def _replace(module: fx.GraphModule, node: fx.Node, new: fx.Node) -> None:
    """Let `new` take the place of a node; what led to the node only goes, too."""
    node.replace_all_uses_with(new)
    left = [node]
    while left:
        gone = left.pop()
        sources = gone.all_input_nodes
        module.graph.erase_node(gone)
        left += [each for each in sources if not each.users and each.op != "placeholder"]
