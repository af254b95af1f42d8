"""Making the layers that replacements consist of, with the geometry, type and mode of the layer they replace."""

from __future__ import annotations

from typing import TypeVar, cast

from torch import nn

from zoo.surgery.reconstruction.patches import Layer, groups_of

_M = TypeVar("_M", bound=nn.Module)


def match_layer(layer: Layer, new: _M) -> _M:
    """Return `new` on the device, in the type and in the mode of `layer`, and trainable if that is."""
    new = new.to(layer.weight.device, layer.weight.dtype)
    for parameter in new.parameters():
        parameter.requires_grad_(layer.weight.requires_grad)
    return new.train(layer.training)


def derive_layer(
    layer: Layer, inputs: int, outputs: int, *, axes: tuple[bool, bool] = (True, True), bias: bool = False
) -> Layer:
    """Return a layer like `layer` with other channels, its weights initialised at random.

    Groups are kept, and along the axes that are on, so are kernel size, stride, padding, dilation and padding mode.

    Args:
        layer: The layer to follow.
        inputs: Input channels.
        outputs: Output channels.
        axes: Whether (height, width) are on; along an axis that is off, the kernel is one pixel wide, its stride one.
        bias: Whether it has a bias.
    """
    if isinstance(layer, nn.Linear):
        return match_layer(layer, nn.Linear(inputs, outputs, bias=bias))

    def along(values: object, other: int) -> tuple[int, int]:
        pair = cast("tuple[int, int]", values)
        return (pair[0] if axes[0] else other, pair[1] if axes[1] else other)

    kernel, stride, dilation = along(layer.kernel_size, 1), along(layer.stride, 1), along(layer.dilation, 1)
    if isinstance(layer, nn.ConvTranspose2d):
        transposed = nn.ConvTranspose2d(
            inputs, outputs, kernel, stride, along(layer.padding, 0), along(layer.output_padding, 0),
            groups=layer.groups, bias=bias, dilation=dilation,
        )  # fmt: skip
        return match_layer(layer, transposed)
    padding = layer.padding if isinstance(layer.padding, str) else along(layer.padding, 0)
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride, padding, dilation,
        groups=layer.groups, bias=bias, padding_mode=layer.padding_mode,
    )  # fmt: skip
    return match_layer(layer, conv)


def derive_pointwise(layer: Layer, inputs: int, outputs: int, *, bias: bool = False) -> Layer:
    """Return a 1 x 1 convolution with the groups of `layer`; a linear layer if that is one.

    Args:
        layer: The layer whose groups, device, type and mode to take over.
        inputs: Input channels.
        outputs: Output channels.
        bias: Whether it has a bias.
    """
    if isinstance(layer, nn.Linear):
        return match_layer(layer, nn.Linear(inputs, outputs, bias=bias))
    return match_layer(layer, nn.Conv2d(inputs, outputs, 1, groups=groups_of(layer), bias=bias))
