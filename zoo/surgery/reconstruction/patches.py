"""The patches that convolutions, transposed convolutions and linear layers multiply by their weight.

All three compute y = W x + b from a patch x at each output position. A linear layer counts as a 1 x 1 convolution on
(N, C, positions, 1). Positions are flat indices into an (H', W') output, row by row.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

#: A layer that computes a weighted sum of a patch.
Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def draw_positions(size: torch.Size | tuple[int, int], count: int, generator: torch.Generator) -> Tensor:
    """Draw distinct output positions at random.

    Args:
        size: (H', W') of the output.
        count: How many to draw; if there are no more than that, all are returned in order.
        generator: The source of randomness.

    Returns:
        (positions,) flat indices.
    """
    total = size[0] * size[1]
    return torch.arange(total) if total <= count else torch.randperm(total, generator=generator)[:count]


def pixels_at(image: Tensor, at: Tensor) -> Tensor:
    """Return the pixels of one image at flat positions: (C, H, W) and (positions,) to (positions, C)."""
    return image.flatten(1)[:, at.to(image.device)].T


def groups_of(layer: Layer) -> int:
    """Return the number of groups of a layer, 1 for a linear layer."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def channels_of(layer: Layer) -> tuple[int, int]:
    """Return the numbers of input and output channels."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def kernel_of(layer: Layer) -> tuple[int, int]:
    """Return (height, width) of the kernel, (1, 1) for a linear layer."""
    return (1, 1) if isinstance(layer, nn.Linear) else cast("tuple[int, int]", layer.kernel_size)


def dense_weight(layer: Layer) -> Tensor:
    """Return the weight that multiplies patches, on the CPU; a view of the layer's own where that is on the CPU.

    Returns:
        (groups, out / groups, in / groups, taps), the taps being the kernel's positions, row by row.
    """
    weight, groups = layer.weight.detach().cpu(), groups_of(layer)
    if isinstance(layer, nn.ConvTranspose2d):  # (in, out / groups, kh, kw)
        return weight.view(groups, -1, *weight.shape[1:]).flatten(3).transpose(1, 2)
    return weight.view(groups, weight.shape[0] // groups, weight.shape[1], -1)


def store_dense_weight(layer: Layer, weight: Tensor) -> None:
    """Write a weight in the form of :func:`dense_weight` into a layer.

    Args:
        layer: Changed in place.
        weight: (groups, out / groups, in / groups * taps).
    """
    with torch.no_grad():
        if isinstance(layer, nn.ConvTranspose2d):
            taps = math.prod(layer.kernel_size)
            weight = weight.reshape(*weight.shape[:2], -1, taps).transpose(1, 2)
        layer.weight.copy_(weight.reshape(layer.weight.shape))


def output_size(layer: Layer, height: int, width: int) -> tuple[int, int]:
    """Return (H', W') of a layer's output for an input of (H, W)."""
    if isinstance(layer, nn.Linear):
        return height, width
    sizes = []
    for axis, side in enumerate((height, width)):
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        if isinstance(layer, nn.ConvTranspose2d):
            grown = (side - 1) * layer.stride[axis] + reach + layer.output_padding[axis]
            sizes.append(grown - 2 * cast("tuple[int, int]", layer.padding)[axis])
        else:
            before, after = layer._reversed_padding_repeated_twice[2 - 2 * axis : 4 - 2 * axis]
            sizes.append((side + before + after - reach) // layer.stride[axis] + 1)
    return sizes[0], sizes[1]


def extract_patches(layer: Layer, image: Tensor, at: Tensor) -> Tensor:
    """Return the patches that a layer sees at some output positions of one image.

    Only these patches are copied, so that large kernels and images need little memory. A transposed convolution sees
    zeros at the taps that do not reach a position.

    Args:
        layer: The layer.
        image: Its input, (1, in, H, W).
        at: (positions,) flat indices into its output.

    Returns:
        (positions, in, taps), on the image's device.
    """
    if isinstance(layer, nn.Linear):
        return pixels_at(image[0], at)[..., None]
    width_out = output_size(layer, *image.shape[-2:])[1]
    tap = torch.arange(math.prod(layer.kernel_size))
    row, column = tap // layer.kernel_size[1], tap % layer.kernel_size[1]
    down, right = (at // width_out)[:, None], (at % width_out)[:, None]
    if isinstance(layer, nn.ConvTranspose2d):
        return _gather_transposed(layer, image, (down, right), (row, column))
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padding = layer._reversed_padding_repeated_twice
    padded = functional.pad(image, padding, mode=mode) if any(padding) else image
    rows = down * layer.stride[0] + row * layer.dilation[0]
    columns = right * layer.stride[1] + column * layer.dilation[1]
    seen = padded[0][:, rows.to(image.device), columns.to(image.device)]  # (in, positions, k*k)
    return seen.permute(1, 0, 2)


def _gather_transposed(
    layer: nn.ConvTranspose2d, image: Tensor, position: tuple[Tensor, Tensor], tap: tuple[Tensor, Tensor]
) -> Tensor:
    """The patches of a transposed convolution: which pixel each tap brought to the position, if any."""
    sources, reached = [], torch.ones((), dtype=torch.bool)
    for axis in (0, 1):
        padding = cast("tuple[int, int]", layer.padding)[axis]
        offset = position[axis] + padding - tap[axis] * layer.dilation[axis]
        source, side = offset // layer.stride[axis], image.shape[2 + axis]
        reached = reached & (offset % layer.stride[axis] == 0) & (source >= 0) & (source < side)
        sources.append(source.clamp(0, side - 1).to(image.device))
    seen = image[0][:, sources[0], sources[1]] * reached.to(image.device, image.dtype)
    return seen.permute(1, 0, 2)
