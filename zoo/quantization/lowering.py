"""Operators rewritten as others that engines compute in int8, before scales are set."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from zoo.quantization.fold import SkipLayer
from zoo.surgery import calls_of, insert_after, replace_named, unused_name


class GlobalAveragePool(nn.Module):
    """The mean over height and width. (N, C, H, W) -> (N, C, 1, 1)"""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class DepthToSpace(nn.Module):
    """Pixel shuffle of channels ordered (row, column, channel). (N, k*k*C, H, W) -> (N, C, k*H, k*W)

    `nn.PixelShuffle` orders them (channel, row, column). In this order whole runs of channels move at once
    when the channels lie innermost in memory, as they do between int8 convolutions.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def extra_repr(self) -> str:
        return f"size={self.size}"

    def forward(self, x: Tensor) -> Tensor:
        n, channels, h, w = x.shape
        k = self.size
        if x.is_contiguous(memory_format=torch.channels_last):
            blocks = x.permute(0, 2, 3, 1).reshape(n, h, w, k, k * channels // (k * k))
            rows = blocks.transpose(2, 3).reshape(n, h * k, w * k, channels // (k * k))
            return rows.permute(0, 3, 1, 2)
        blocks = x.reshape(n, k, k, channels // (k * k), h, w)
        return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, channels // (k * k), h * k, w * k)


class Pad(nn.Module):
    """`torch.nn.functional.pad` as a module. (N, C, H, W) -> (N, C, H', W')"""

    def __init__(self, amounts: tuple[int, ...], mode: str) -> None:
        super().__init__()
        self.amounts, self.mode = amounts, mode

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts, self.mode)


class Unfused(nn.Module):
    """Passes values on, in an operator that engines do not fuse with the one before. Any shape.

    ONNX Runtime takes an average pool between quantized tensors for one that divides by the whole window everywhere,
    also where the window reaches beyond the border (``ceil_mode``).
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, x.new_tensor(torch.finfo(torch.float32).min))


def lower_operators(module: fx.GraphModule, skip_layer: SkipLayer) -> None:
    """Rewrite operators as equivalents that run in int8; weights are taken over, never initialised again.

    - ``ConvTranspose2d`` whose stride is its kernel, or larger: a 1 x 1 convolution and a :class:`DepthToSpace`;
    - a convolution and the pixel shuffle after it: the same with the channels reordered;
    - padding other than with zeros: a separate pad before the convolution;
    - SiLU: a sigmoid and a product;
    - the mean over height and width, adaptive average pooling to 1 x 1: global average pooling;
    - dropout and identities are removed.

    Args:
        module: A traced network, changed in place.
        skip_layer: Called with (layer, reason) for transposed convolutions of other forms, which stay as they are.
    """
    for node in list(module.graph.nodes):
        if node.op == "call_module":
            child = module.get_submodule(node.target)
            if isinstance(child, (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)):
                _bypass(module, node)
            elif isinstance(child, nn.ConvTranspose2d):
                _lower_transposed(module, node, child, skip_layer)
            elif type(child) is nn.Conv2d and child.padding_mode != "zeros":
                _lower_padding(module, node, child)
            elif isinstance(child, nn.PixelShuffle):
                _lower_shuffle(module, node, child)
            elif isinstance(child, nn.AvgPool2d) and divides_unevenly(node, child):
                insert_after(module, node, f"{node.name}_unfused", Unfused())
            elif isinstance(child, nn.SiLU):
                _lower_silu(module, node)
            elif isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                replace_named(module, node.target, GlobalAveragePool())
        elif node.op == "call_function" and node.target is F.dropout:
            _bypass(module, node)
        elif node.op == "call_function" and node.target is F.avg_pool2d and divides_unevenly(node):
            insert_after(module, node, f"{node.name}_unfused", Unfused())
        elif node.op == "call_function" and node.target is F.silu:
            _lower_silu(module, node)
        elif _is_global_mean(node):
            _lower_mean(module, node)
    module.delete_all_unused_submodules()
    module.recompile()


def divides_unevenly(node: fx.Node, pool: nn.AvgPool2d | None = None) -> bool:
    """Return whether an average pool, a module or a call, divides by another number than its window's size."""
    if pool is not None:
        return pool.ceil_mode or pool.divisor_override is not None
    return bool(argument(node, 4, "ceil_mode")) or argument(node, 6, "divisor_override") is not None


def argument(node: fx.Node, position: int, name: str) -> Any:
    """Return an argument given by position or by name; None if it is not given."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _bypass(module: fx.GraphModule, node: fx.Node) -> None:
    node.replace_all_uses_with(cast(fx.Node, node.args[0]))
    module.graph.erase_node(node)


def _lower_transposed(
    module: fx.GraphModule, node: fx.Node, conv: nn.ConvTranspose2d, skip_layer: SkipLayer
) -> None:
    size, kernel = conv.stride[0], conv.kernel_size[0]
    plain = (
        tuple(conv.kernel_size) == (kernel, kernel)
        and tuple(conv.stride) == (size, size)
        and tuple(conv.output_padding) == (size - kernel, size - kernel)
        and conv.padding == (0, 0)
        and conv.dilation == (1, 1)
        and conv.groups == 1
    )
    if not plain or any(len(call.args) != 1 or call.kwargs for call in calls_of(module, conv)):
        skip_layer(
            str(node.target), "transposed convolution whose windows overlap; engines compute it in float"
        )
        return
    if size > 1:
        name = unused_name(module, f"{node.target}_shuffle")
        module.add_submodule(name, DepthToSpace(size))
        for call in calls_of(module, conv):
            with module.graph.inserting_after(call):
                shuffle = module.graph.call_module(name)
            call.replace_all_uses_with(shuffle)
            shuffle.args = (call,)
    replace_named(module, str(node.target), as_pointwise(conv))


def as_pointwise(conv: nn.ConvTranspose2d) -> nn.Conv2d:
    """Return the 1 x 1 convolution which, followed by DepthToSpace(k), equals the transposed one of stride k.

    (in, out, k, k) -> (k * k * out, in, 1, 1): output channel (k * i + j) * out + c is pixel (i, j) of c. A kernel
    smaller than the stride, which does not reach the other pixels of its block, counts as one with zeros there.
    """
    size, missing = conv.stride[0], conv.stride[0] - conv.kernel_size[0]
    outputs = conv.out_channels * size * size
    new = nn.Conv2d(conv.in_channels, outputs, 1, bias=conv.bias is not None, device="meta")
    with torch.no_grad():
        weight = F.pad(conv.weight, (0, missing, 0, missing)).permute(2, 3, 1, 0)
        weight = weight.reshape(outputs, conv.in_channels, 1, 1)
        new.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
        if conv.bias is not None:
            new.bias = nn.Parameter(conv.bias.repeat(size * size))
    return new.train(conv.training)


def _lower_shuffle(module: fx.GraphModule, node: fx.Node, shuffle: nn.PixelShuffle) -> None:
    if all(user.op == "output" for user in node.users):
        return  # nothing is int8 there, and channels lie outermost
    before = cast(fx.Node, node.args[0])
    conv = module.get_submodule(str(before.target)) if before.op == "call_module" else None
    calls = len(calls_of(module, conv)) if conv is not None else 0
    if type(conv) is not nn.Conv2d or conv.groups != 1 or len(before.users) != 1 or calls != 1:
        return
    size = shuffle.upscale_factor
    with torch.no_grad():
        for parameter in conv.parameters():
            rows = parameter.view(-1, size * size, *parameter.shape[1:]).transpose(0, 1)
            parameter.copy_(rows.reshape(parameter.shape).clone())
    if len(calls_of(module, shuffle)) == 1:
        replace_named(module, str(node.target), DepthToSpace(size))
    else:  # other calls of the shuffle may follow layers whose channels keep their order
        node.target = unused_name(module, f"{node.target}_{node.name}")
        module.add_submodule(node.target, DepthToSpace(size))


def _lower_padding(module: fx.GraphModule, node: fx.Node, conv: nn.Conv2d) -> None:
    amounts = tuple(conv._reversed_padding_repeated_twice)
    name = unused_name(module, f"{node.target}_pad")
    module.add_submodule(name, Pad(amounts, conv.padding_mode))
    for call in calls_of(module, conv):
        with module.graph.inserting_before(call):
            pad = module.graph.call_module(name, (call.args[0],))
        call.args = (pad,)
    conv.padding, conv.padding_mode = (0, 0), "zeros"


def _lower_silu(module: fx.GraphModule, node: fx.Node) -> None:
    x = cast(fx.Node, node.args[0])
    with module.graph.inserting_before(node):
        gate = module.graph.call_function(torch.sigmoid, (x,))
        product = module.graph.call_function(torch.mul, (x, gate))
    gate.meta, product.meta = dict(node.meta), dict(node.meta)
    node.replace_all_uses_with(product)
    module.graph.erase_node(node)


def _is_global_mean(node: fx.Node) -> bool:
    if node.op == "call_function" and node.target is F.adaptive_avg_pool2d:
        return argument(node, 1, "output_size") in (1, (1, 1), [1, 1])
    if (node.op, node.target) not in (("call_method", "mean"), ("call_function", torch.mean)):
        return False
    source = cast(fx.Node, node.args[0])
    shape = source.meta["tensor_meta"].shape if "tensor_meta" in source.meta else ()
    axes = argument(node, 1, "dim")
    return len(shape) == 4 and isinstance(axes, (tuple, list)) and sorted(a % 4 for a in axes) == [2, 3]


def _lower_mean(module: fx.GraphModule, node: fx.Node) -> None:
    keeps = node.target is F.adaptive_avg_pool2d or bool(argument(node, 2, "keepdim"))
    name = unused_name(module, f"{node.name}_pool")
    module.add_submodule(name, GlobalAveragePool())
    with module.graph.inserting_before(node):
        result = module.graph.call_module(name, (node.args[0],))
        if not keeps:
            result = module.graph.call_function(torch.flatten, (result, 1))
    node.replace_all_uses_with(result)
    module.graph.erase_node(node)
