"""What a convolution, a transposed convolution or a linear layer sees at each position of its output.

All three compute y = W x + b from a patch x of taps; here lie the patches, and the weight that goes with them.
A linear layer is a 1 x 1 convolution on (N, C, positions, 1).
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
    """`count` distinct flat indices into an (H', W') output, or all of them if there are no more."""
    total = size[0] * size[1]
    return torch.arange(total) if total <= count else torch.randperm(total, generator=generator)[:count]


def pixels_at(image: Tensor, at: Tensor) -> Tensor:
    """The pixels of (C, H, W) at flat positions: (positions, C)."""
    return image.flatten(1)[:, at.to(image.device)].T


def as_images(module: nn.Module, value: Tensor) -> Tensor:
    """A layer's input or output as (N, C, H, W).

    A convolution may be given (C, H, W); a linear layer's (N, ..., C) becomes (N, C, positions, 1).
    """
    if isinstance(module, nn.Linear):
        value = value[None] if value.dim() == 1 else value
        return value.reshape(len(value), -1, value.shape[-1]).transpose(1, 2)[..., None]
    return value[None] if value.dim() == 3 else value


def groups_of(layer: Layer) -> int:
    """The number of groups of channels that do not see each other."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def channels_of(layer: Layer) -> tuple[int, int]:
    """(in, out) channels."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def kernel_of(layer: Layer) -> tuple[int, int]:
    """(height, width) of the kernel."""
    return (1, 1) if isinstance(layer, nn.Linear) else cast("tuple[int, int]", layer.kernel_size)


def dense_weight(layer: Layer) -> Tensor:
    """The weight that multiplies patches: (groups, out / groups, in / groups, taps), on the CPU.

    A view of the layer's weight where that is on the CPU.
    """
    weight, groups = layer.weight.detach().cpu(), groups_of(layer)
    if isinstance(layer, nn.ConvTranspose2d):  # (in, out / groups, kh, kw)
        return weight.view(groups, -1, *weight.shape[1:]).flatten(3).transpose(1, 2)
    return weight.view(groups, weight.shape[0] // groups, weight.shape[1], -1)


def store_dense_weight(layer: Layer, weight: Tensor) -> None:
    """Write a weight (groups, out / groups, in / groups * taps) into the layer."""
    with torch.no_grad():
        if isinstance(layer, nn.ConvTranspose2d):
            taps = math.prod(layer.kernel_size)
            weight = weight.reshape(*weight.shape[:2], -1, taps).transpose(1, 2)
        layer.weight.copy_(weight.reshape(layer.weight.shape))


def output_size(layer: Layer, height: int, width: int) -> tuple[int, int]:
    """(H', W') for an (H, W) input."""
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
    """What `layer` sees at the flat output positions `at` of one image: (1, in, H, W) -> (positions, in, k*k).

    Only the patches asked for are copied, so that a large kernel or image costs no large unfolding. A
    transposed convolution sees zeros at the taps that do not reach the position.
    """
    if isinstance(layer, nn.Linear):
        return pixels_at(image[0], at)[..., None]
    width_out = output_size(layer, *image.shape[-2:])[1]
    tap = torch.arange(math.prod(layer.kernel_size))
    row, column = tap // layer.kernel_size[1], tap % layer.kernel_size[1]
    down, right = (at // width_out)[:, None], (at % width_out)[:, None]
    if isinstance(layer, nn.ConvTranspose2d):
        return _scattered(layer, image, (down, right), (row, column))
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padding = layer._reversed_padding_repeated_twice
    padded = functional.pad(image, padding, mode=mode) if any(padding) else image
    rows = down * layer.stride[0] + row * layer.dilation[0]
    columns = right * layer.stride[1] + column * layer.dilation[1]
    seen = padded[0][:, rows.to(image.device), columns.to(image.device)]  # (in, positions, k*k)
    return seen.permute(1, 0, 2)


def _scattered(
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
