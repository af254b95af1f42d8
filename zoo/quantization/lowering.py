"""Operators rewritten as others that engines compute in int8, exactly or to rounding, before scales are set."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from zoo.quantization.fold import Leave, replace_module


class GlobalAveragePool(nn.Module):
    """The mean over height and width. (N, C, H, W) -> (N, C, 1, 1)"""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class Pad(nn.Module):
    """`torch.nn.functional.pad` as a module. (N, C, H, W) -> (N, C, H', W')"""

    def __init__(self, amounts: tuple[int, ...], mode: str) -> None:
        super().__init__()
        self.amounts, self.mode = amounts, mode

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts, self.mode)


def lower(module: fx.GraphModule, leave: Leave) -> None:
    """Rewrite what has an equivalent that runs in int8. Weights are taken over, never initialised afresh.

    - ``ConvTranspose2d`` whose stride is its kernel: a 1 x 1 convolution and a pixel shuffle;
    - padding other than with zeros: a pad of its own before the convolution;
    - SiLU: a sigmoid and a product;
    - the mean over height and width, adaptive average pooling to 1 x 1: global average pooling;
    - dropout and identities vanish.

    Transposed convolutions of other forms stay as they are and are reported through ``leave(layer, reason)``.
    """
    for node in list(module.graph.nodes):
        if node.op == "call_module":
            child = module.get_submodule(node.target)
            if isinstance(child, (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)):
                _bypass(module, node)
            elif isinstance(child, nn.ConvTranspose2d):
                _lower_transposed(module, node, child, leave)
            elif type(child) is nn.Conv2d and child.padding_mode != "zeros":
                _lower_padding(module, node, child)
            elif isinstance(child, nn.SiLU):
                _lower_silu(module, node)
            elif isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                replace_module(module, node.target, GlobalAveragePool())
        elif node.op == "call_function" and node.target is F.dropout:
            _bypass(module, node)
        elif node.op == "call_function" and node.target is F.silu:
            _lower_silu(module, node)
        elif _is_global_mean(node):
            _lower_mean(module, node)
    module.delete_all_unused_submodules()
    module.recompile()


def _bypass(module: fx.GraphModule, node: fx.Node) -> None:
    node.replace_all_uses_with(cast(fx.Node, node.args[0]))
    module.graph.erase_node(node)


def _lower_transposed(module: fx.GraphModule, node: fx.Node, conv: nn.ConvTranspose2d, leave: Leave) -> None:
    size = conv.kernel_size[0]
    plain = (
        tuple(conv.kernel_size) == tuple(conv.stride) == (size, size)
        and conv.padding == conv.output_padding == (0, 0)
        and conv.dilation == (1, 1)
        and conv.groups == 1
    )
    if not plain or len(node.args) != 1 or node.kwargs:
        leave(str(node.target), "transposed convolution whose windows overlap; engines compute it in float")
        return
    if size > 1:
        name = f"{node.target}_shuffle"
        module.add_submodule(name, nn.PixelShuffle(size))
        with module.graph.inserting_after(node):
            shuffle = module.graph.call_module(name)
        node.replace_all_uses_with(shuffle)
        shuffle.args = (node,)
    replace_module(module, str(node.target), as_pointwise(conv))


def as_pointwise(conv: nn.ConvTranspose2d) -> nn.Conv2d:
    """The 1 x 1 convolution which, followed by PixelShuffle(k), is the k x k transposed one of stride k.

    (in, out, k, k) -> (out * k * k, in, 1, 1): output channel c * k * k + k * i + j is pixel (i, j) of c.
    """
    size = conv.kernel_size[0]
    outputs = conv.out_channels * size * size
    new = nn.Conv2d(conv.in_channels, outputs, 1, bias=conv.bias is not None, device="meta")
    with torch.no_grad():
        weight = conv.weight.permute(1, 2, 3, 0).reshape(outputs, conv.in_channels, 1, 1)
        new.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
        if conv.bias is not None:
            new.bias = nn.Parameter(conv.bias.repeat_interleave(size * size))
    return new.train(conv.training)


def _lower_padding(module: fx.GraphModule, node: fx.Node, conv: nn.Conv2d) -> None:
    amounts = tuple(conv._reversed_padding_repeated_twice)
    name = f"{node.target}_pad"
    module.add_submodule(name, Pad(amounts, conv.padding_mode))
    with module.graph.inserting_before(node):
        pad = module.graph.call_module(name, (node.args[0],))
    node.args = (pad,)
    conv.padding, conv.padding_mode = (0, 0), "zeros"


def _lower_silu(module: fx.GraphModule, node: fx.Node) -> None:
    x = cast(fx.Node, node.args[0])
    with module.graph.inserting_before(node):
        gate = module.graph.call_function(torch.sigmoid, (x,))
        product = module.graph.call_function(torch.mul, (x, gate))
    node.replace_all_uses_with(product)
    module.graph.erase_node(node)


def _is_global_mean(node: fx.Node) -> bool:
    if node.op == "call_method" and node.target == "mean":
        pass
    elif node.op == "call_function" and node.target is torch.mean:
        pass
    elif node.op == "call_function" and node.target is F.adaptive_avg_pool2d:
        return _argument(node, 1, "output_size") in (1, (1, 1), [1, 1])
    else:
        return False
    source = cast(fx.Node, node.args[0])
    shape = source.meta["tensor_meta"].shape if "tensor_meta" in source.meta else ()
    axes = _argument(node, 1, "dim")
    return len(shape) == 4 and isinstance(axes, (tuple, list)) and sorted(a % 4 for a in axes) == [2, 3]


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _lower_mean(module: fx.GraphModule, node: fx.Node) -> None:
    keeps = node.target is F.adaptive_avg_pool2d or bool(_argument(node, 2, "keepdim"))
    name = f"{node.name}_pool"
    module.add_submodule(name, GlobalAveragePool())
    with module.graph.inserting_before(node):
        result = module.graph.call_module(name, (node.args[0],))
        if not keeps:
            result = module.graph.call_function(torch.flatten, (result, 1))
    node.replace_all_uses_with(result)
    module.graph.erase_node(node)
