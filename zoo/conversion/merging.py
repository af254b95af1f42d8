"""Layers of torch in place of the arithmetic that some exporters write for them: PaddlePaddle's above all."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx, nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PRODUCTS, _SUMS = (operator.mul, torch.mul), (operator.add, torch.add)
_QUOTIENTS = (operator.truediv, torch.div)


def merge_layers(network: fx.GraphModule) -> None:
    """Merge sums into biases, and arithmetic into hard-swish and hard-sigmoid layers; in place.

    - a convolution without a bias, and the sum with one constant per channel;
    - x * clip(x + 3, 0, 6) / 6, with the division anywhere: :class:`torch.nn.Hardswish`;
    - clip(x + 3, 0, 6) / 6: :class:`torch.nn.Hardsigmoid`.
    """
    for node in list(network.graph.nodes):
        _merge_bias(network, node)
    for find, layer in ((_hard_swish_input, nn.Hardswish), (_hard_sigmoid_input, nn.Hardsigmoid)):
        for node in reversed(list(network.graph.nodes)):
            x = find(network, node) if node.users else None
            if x is not None:
                network.add_submodule(f"{node.name}_{layer.__name__.lower()}", layer())
                _replace(network, node, f"{node.name}_{layer.__name__.lower()}", x)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()


def _replace(network: fx.GraphModule, node: fx.Node, path: str, x: fx.Node) -> None:
    with network.graph.inserting_before(node):
        node.replace_all_uses_with(network.graph.call_module(path, (x,)))
    network.graph.erase_node(node)


def _merge_bias(network: fx.GraphModule, node: fx.Node) -> None:
    if not _is(node, _SUMS) or len(node.args) != 2 or node.kwargs:
        return
    for source, constant in (node.args, node.args[::-1]):
        if not isinstance(source, fx.Node) or not isinstance(constant, fx.Node):
            continue
        layer, x = _module(network, source), source.args[0] if source.args else None
        if type(layer) not in _CONVOLUTIONS or layer.bias is not None or not isinstance(x, fx.Node):
            continue
        alone = len(source.users) == 1 and constant.op == "get_attr"
        uses = sum(each.op == "call_module" and each.target == source.target for each in network.graph.nodes)
        if not alone or uses != 1:
            continue
        values = _attribute(network, str(constant.target))
        spread = (layer.out_channels, *(1,) * (layer.weight.dim() - 2))
        if tuple(values.shape) in (spread, (1, *spread)):
            layer.bias = nn.Parameter(values.detach().reshape(-1).clone())
            _replace(network, node, str(source.target), x)
            network.graph.erase_node(source)
            return


def _attribute(network: fx.GraphModule, path: str) -> torch.Tensor:
    holder, _, name = path.rpartition(".")
    found = getattr(network.get_submodule(holder), name)
    assert isinstance(found, torch.Tensor)
    return found


def _hard_swish_input(network: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    product, factor = _unscaled(node)
    if not _is(product, _PRODUCTS) or len(product.args) != 2:
        return None
    for x, other in (product.args, product.args[::-1]):
        if isinstance(x, fx.Node) and isinstance(other, fx.Node):
            ramp, share = _unscaled(other)
            if _ramp_of(network, ramp) is x and math.isclose(factor * share, 1 / 6, rel_tol=1e-5):
                return x
    return None


def _hard_sigmoid_input(network: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    ramp, factor = _unscaled(node)
    return _ramp_of(network, ramp) if math.isclose(factor, 1 / 6, rel_tol=1e-5) else None


def _unscaled(node: fx.Node) -> tuple[fx.Node, float]:
    """Return what a node is a multiple of, and the factor."""
    factor = 1.0
    while len(node.args) == 2 and not node.kwargs:
        first, second = node.args
        if _is(node, _PRODUCTS) and isinstance(first, (int, float)):
            first, second = second, first
        if not isinstance(first, fx.Node) or not isinstance(second, (int, float)) or not second:
            break
        if _is(node, _PRODUCTS):
            factor *= second
        elif _is(node, _QUOTIENTS):
            factor /= second
        else:
            break
        node = first
    return node, factor


def _ramp_of(network: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return x if a node is clip(x + 3, 0, 6)."""
    layer = _module(network, node)
    bounded = isinstance(layer, nn.Hardtanh) and (layer.min_val, layer.max_val) == (0, 6)
    if not bounded and not (
        _is(node, (torch.clamp, torch.clip)) and tuple(node.args[1:]) == (0, 6) and not node.kwargs
    ):
        return None
    total = node.args[0]
    if not isinstance(total, fx.Node) or not _is(total, _SUMS) or len(total.args) != 2 or total.kwargs:
        return None
    for x, three in (total.args, total.args[::-1]):
        if isinstance(x, fx.Node) and three == 3:
            return x
    return None


def _is(node: Any, functions: tuple[Any, ...]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in functions


def _module(network: fx.GraphModule, node: Any) -> Any:
    called = isinstance(node, fx.Node) and node.op == "call_module"
    return network.get_submodule(str(node.target)) if called else None
