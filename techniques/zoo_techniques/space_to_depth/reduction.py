"""A dense-prediction network run at a fraction of its resolution.

Space-to-depth by r followed by a k x k convolution is one convolution with a kernel of k*r x k*r and stride r, so
nothing has to be shuffled at the input: the first convolutions grow, everything between runs on pictures of
1 / r^2 of the pixels, and the last convolution gives r^2 times the channels, which a pixel shuffle spreads out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from zoo.errors import ZooError
from zoo.modules.several_inputs import divides_inputs
from zoo.surgery import (
    calls_of,
    evaluating,
    identity_conv,
    insert_after,
    layer_of,
    reset_inputs,
    shape_of,
    unused_name,
    watch,
)
from zoo.surgery.reconstruction import RefitTarget, is_refittable, refit_unsupported_reason

_FINAL_MODULES = (nn.Sigmoid, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Tanh, nn.Identity, nn.Dropout)
_FINAL_FUNCTIONS = frozenset(
    {torch.sigmoid, torch.tanh, torch.clamp, torch.relu, functional.sigmoid, functional.relu,
     functional.leaky_relu, functional.hardtanh, "sigmoid", "tanh", "clamp", "clip", "relu", "contiguous"}
)  # fmt: skip


def check_output(module: fx.GraphModule) -> None:
    """Check that the output has the size of the input, or a multiple of it.

    Raises:
        ZooError: It has another size.
    """
    source = next(node for node in module.graph.nodes if node.op == "placeholder")
    if any(divides_inputs(user, module) for user in source.users):
        raise ZooError("it needs a network with one input, an image")
    result = module.graph.output_node().args[0]
    before, after = shape_of(source), shape_of(result) if isinstance(result, fx.Node) else None
    if before is not None and after is not None and len(before) == len(after) == 4:
        scale = after[2] // before[2]
        if scale > 0 and tuple(after[2:]) == (before[2] * scale, before[3] * scale):
            return
    raise ZooError("it needs a network whose output has the size of its input, or a multiple of it")


def scaling_layers(module: fx.GraphModule, example: Tensor, factor: int) -> dict[nn.Module, RefitTarget]:
    """Return the refittable layers whose outputs shrink with the image; those of an SE block do not.

    Args:
        module: The traced network.
        example: An input, (N, C, H, W).
        factor: By which the sides shrink.

    Raises:
        ZooError: The network does not run on an image of 1 / factor the size.
    """
    able = {
        layer: node
        for node in module.graph.nodes
        if (layer := layer_of(module, node)) and is_refittable(layer)
    }
    large, small = Counter[nn.Module](), Counter[nn.Module]()

    def measure(sizes: Counter[nn.Module]) -> Callable[[nn.Module, Tensor, Tensor], None]:
        return lambda layer, given, output: sizes.update({layer: output.shape[2] * output.shape[3]})

    with evaluating(module):
        watch(module, able, example, measure(large))
        try:
            watch(module, able, functional.avg_pool2d(example, factor), measure(small))
        except Exception as error:  # a stranger's forward()
            raise ZooError(
                f"{type(module).__name__} does not run at 1/{factor} of its resolution: {error}"
            ) from error
    return {
        layer: RefitTarget(str(node.target), layer)
        for layer, node in able.items()
        if large[layer] == small[layer] * factor**2
    }


class ResolutionReduction:
    """Bring a traced network to 1 / factor of its resolution, in steps.

    Make it before outputs are recorded: where the output does not come from a convolution, a 1 x 1 convolution that
    computes the identity is inserted.

    Attributes:
        last: The convolution that makes the output.
    """

    def __init__(self, module: fx.GraphModule, factor: int) -> None:
        self._module, self._factor = module, factor
        self._source = next(node for node in module.graph.nodes if node.op == "placeholder")
        found = self._find_last()
        if found is None:
            result = cast(fx.Node, module.graph.output_node().args[0])
            channels = cast(torch.Size, shape_of(result))[1]
            found = (
                insert_after(
                    module, result, "expand", identity_conv(channels, like=next(module.parameters()))
                ),
                None,
            )
        self._node, self._shuffle = found
        module.recompile()
        self.last = cast(nn.Conv2d, layer_of(module, self._node))

    def _find_last(self) -> tuple[fx.Node, fx.Node | None] | None:
        """The last convolution, and the pixel shuffle after it, if there is one."""
        node, shuffle = self._module.graph.output_node().args[0], None
        while isinstance(node, fx.Node) and len(node.users) == 1:
            layer = layer_of(self._module, node)
            if isinstance(layer, nn.Conv2d):
                plain = (
                    refit_unsupported_reason(layer) is None and layer.groups == 1 and max(layer.stride) == 1
                )
                return (node, shuffle) if plain and len(calls_of(self._module, layer)) == 1 else None
            if isinstance(layer, nn.PixelShuffle) and shuffle is None:
                shuffle = node
            elif not isinstance(layer, _FINAL_MODULES) and node.target not in _FINAL_FUNCTIONS:
                return None
            node = node.args[0]
        return None

    @property
    def wanted(self) -> RefitTarget:
        """Return the target of the last convolution: what is recorded of it through :meth:`view`."""
        return RefitTarget("the last convolution", self.last)

    def view(self, layer: nn.Module, output: Tensor) -> Tensor:
        """Return what is wanted of a layer at the reduced resolution.

        Args:
            layer: The layer.
            output: Its output at full resolution, (N, C, H, W).

        Returns:
            (N, C, H / factor, W / factor); for the last convolution with factor^2 times the channels.
        """
        return self._gather(output) if layer is self.last else functional.avg_pool2d(output, self._factor)

    @property
    def _inner(self) -> int:
        """Output pixels that the last convolution's channels become along each side, before the reduction."""
        layer = None if self._shuffle is None else layer_of(self._module, self._shuffle)
        return layer.upscale_factor if isinstance(layer, nn.PixelShuffle) else 1

    def _gather(self, outputs: Tensor) -> Tensor:
        """What the last convolution gave at full resolution as it is wanted at the reduced one.

        (N, C, H, W) -> (N, factor^2 * C, H / factor, W / factor), in the order in which the new shuffle takes it.
        """
        factor, inner = self._factor, self._inner
        n, _, h, w = outputs.shape
        split = outputs.reshape(n, -1, inner, inner, h // factor, factor, w // factor, factor)
        return split.permute(0, 1, 5, 2, 7, 3, 4, 6).reshape(n, -1, h // factor, w // factor)

    def apply(self, *, detail: bool) -> None:
        """Rewrite the graph so that it computes the network on the averaged image, and enlarges the result.

        Args:
            detail: Pass the input's pixels to the last convolution as well, with weights of zero.
        """
        graph, factor = self._module.graph, self._factor
        average: fx.Node | None = None
        for user in list(self._source.users):
            layer = layer_of(self._module, user)
            if _growable(layer) and len(calls_of(self._module, cast(nn.Module, layer))) == 1:
                grow_kernel(cast(nn.Conv2d, layer), factor)
                continue
            if average is None:  # what is not a convolution, or asks for the size, gets the smaller image
                with graph.inserting_after(self._source):
                    average = graph.call_function(functional.avg_pool2d, (self._source, factor))
            user.replace_input_with(self._source, average)
        self._spread()
        if detail:
            self._add_detail()
        graph.lint()
        self._module.delete_all_unused_submodules()
        self._module.recompile()

    def _spread(self) -> None:
        """Let the last convolution give each output pixel factor x factor times, and shuffle them into place."""
        factor, inner, conv = self._factor, self._inner, self.last
        side = torch.arange(inner * factor) // factor
        within = (side[:, None] * inner + side).flatten()  # the old pixel of each new one
        colours = torch.arange(conv.out_channels // inner**2) * inner**2
        index = (colours[:, None] + within).flatten()
        with torch.no_grad():
            conv.weight = nn.Parameter(conv.weight[index].clone(), conv.weight.requires_grad)
            if conv.bias is not None:
                conv.bias = nn.Parameter(conv.bias[index].clone(), conv.bias.requires_grad)
        conv.out_channels = len(index)
        shuffle = nn.PixelShuffle(inner * factor)
        if self._shuffle is None:
            insert_after(self._module, self._node, "shuffle", shuffle)
        else:
            self._module.set_submodule(str(self._shuffle.target), shuffle)

    def _add_detail(self) -> None:
        """Concatenate the input, space-to-depth, to what the last convolution takes."""
        channels, conv = cast(torch.Size, shape_of(self._source))[1], self.last
        features = cast(fx.Node, self._node.args[0])
        if features is self._source:
            return  # it is the first convolution too, and sees every pixel
        name = unused_name(self._module, "detail")
        self._module.add_submodule(name, space_to_depth(channels, self._factor, like=conv.weight))
        with self._module.graph.inserting_before(self._node):
            detail = self._module.graph.call_module(name, (self._source,))
            joined = self._module.graph.call_function(torch.cat, ([features, detail],), {"dim": 1})
        self._node.replace_input_with(features, joined)
        old = conv.weight.detach().clone()
        reset_inputs(conv, conv.in_channels + channels * self._factor**2)
        with torch.no_grad():
            conv.weight[:, : old.shape[1]] = old


def _growable(layer: nn.Module | None) -> bool:
    return type(layer) is nn.Conv2d and not isinstance(layer.padding, str)


def grow_kernel(conv: nn.Conv2d, factor: int) -> None:
    """Let a convolution read images `factor` times as large along each side, each of its pixels an average."""
    taps = conv.weight.detach() / factor**2
    size = [conv.dilation[axis] * (side - 1) + 1 for axis, side in enumerate(conv.kernel_size)]
    spaced = taps.new_zeros(*taps.shape[:2], *size)
    spaced[:, :, :: conv.dilation[0], :: conv.dilation[1]] = taps
    grown = spaced.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    conv.weight = nn.Parameter(grown, conv.weight.requires_grad)
    padding = cast("tuple[int, int]", conv.padding)
    conv.kernel_size = (size[0] * factor, size[1] * factor)
    conv.stride = (conv.stride[0] * factor, conv.stride[1] * factor)
    conv.padding = (padding[0] * factor, padding[1] * factor)
    conv.dilation = (1, 1)
    conv._reversed_padding_repeated_twice = [
        amount * factor for amount in conv._reversed_padding_repeated_twice
    ]


def space_to_depth(channels: int, factor: int, *, like: Tensor) -> nn.Conv2d:
    """Return space-to-depth as a convolution: (N, C, H, W) to (N, C * factor^2, H / factor, W / factor).

    Args:
        channels: C.
        factor: Side of a cell in pixels.
        like: A tensor with the device and type that the convolution is to have.
    """
    conv = nn.Conv2d(channels, channels * factor**2, factor, stride=factor, bias=False)
    picked = torch.eye(factor**2).view(factor**2, 1, factor, factor)
    weight = torch.zeros(channels, factor**2, channels, factor, factor)
    for channel in range(channels):
        weight[channel, :, channel] = picked[:, 0]
    conv.weight = nn.Parameter(weight.flatten(0, 1))
    return conv.to(like.device, like.dtype).eval()
