"""Convolutions as numbers: what one after the other computes, and the sum of two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Sides = tuple[int, int]


class NotOneConvolution(Exception):
    """Two linear maps are together not a convolution, or not at the border; the message says why."""


@dataclass(frozen=True)
class LinearMap:
    """A convolution with zeros around the image.

    Attributes:
        weight: float64 (out, in / groups, height, width).
        bias: float64 (out,).
        padding: Zeros on each side, by axis.
    """

    weight: Tensor
    bias: Tensor
    groups: int = 1
    stride: Sides = (1, 1)
    padding: Sides = (0, 0)
    dilation: Sides = (1, 1)

    @property
    def outputs(self) -> int:
        """Return the output channels."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """Return the input channels."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def kernel(self) -> Sides:
        """Return height and width of the kernel."""
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    @property
    def scales(self) -> bool:
        """Return whether it only scales and shifts each channel by itself."""
        each = self.groups == self.inputs == self.outputs
        return each and self.kernel == self.stride == (1, 1) and self.padding == (0, 0)

    def layer(self, like: Tensor) -> nn.Conv2d:
        """Return it as a layer, in eval mode, with the type and device of a tensor; a bias of zeros is left out."""
        biased = bool(self.bias.any())
        conv = nn.Conv2d(
            self.inputs, self.outputs, self.kernel, self.stride, self.padding, self.dilation, self.groups, biased,
            device="meta",
        )  # fmt: skip
        conv.weight = nn.Parameter(self.weight.to(like))
        if biased:
            conv.bias = nn.Parameter(self.bias.to(like))
        return conv.eval()


def identity(channels: int) -> LinearMap:
    """Return what leaves an image of that many channels as it is."""
    ones = torch.ones(channels, 1, 1, 1, dtype=torch.float64)
    return LinearMap(ones, torch.zeros(channels, dtype=torch.float64), groups=channels)


def of_convolution(layer: nn.Conv2d) -> LinearMap | None:
    """Return a convolution as numbers; None if what is around the image is not zeros, or not as much on both sides."""
    if layer.padding_mode != "zeros":
        return None
    around = layer._reversed_padding_repeated_twice  # left, right, top, bottom, whatever "same" stands for
    if around[::2] != around[1::2]:
        return None
    weight = layer.weight.detach().cpu().double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().cpu().double()
    stride, dilation = cast(Sides, layer.stride), cast(Sides, layer.dilation)
    return LinearMap(weight, bias, layer.groups, stride, (around[2], around[0]), dilation)


def of_batch_norm(norm: nn.BatchNorm2d) -> LinearMap | None:
    """Return a batch norm in eval mode as numbers; None if it has no statistics."""
    if norm.running_mean is None or norm.running_var is None:
        return None
    scale = (norm.running_var.detach().cpu().double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().cpu().double()
    shift = -norm.running_mean.detach().cpu().double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().cpu().double()
    return LinearMap(scale.view(-1, 1, 1, 1), shift, groups=len(scale))


def compose(first: LinearMap, second: LinearMap) -> LinearMap:
    """Return the one convolution that computes `second` of `first`.

    Raises:
        NotOneConvolution: There is none that computes the same at the border too.
    """
    if second.scales:
        scale = second.weight.flatten()
        return replace(
            first, weight=first.weight * scale.view(-1, 1, 1, 1), bias=first.bias * scale + second.bias
        )
    padded = second.padding != (0, 0)
    if first.kernel == first.stride == (1, 1) and first.padding == (0, 0):
        if padded and first.bias.any():
            raise NotOneConvolution(
                "it pads with zeros what the layer before has shifted, which differs at the border"
            )
        shape = {"stride": second.stride, "padding": second.padding, "dilation": second.dilation}
    else:
        if padded:
            raise NotOneConvolution("it pads with zeros what the layer before computes beyond the border too")
        if second.kernel != (1, 1) and (first.dilation != (1, 1) or second.dilation != (1, 1)):
            raise NotOneConvolution("it or the layer before is dilated")
        stride = (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1])
        shape = {"stride": stride, "padding": first.padding, "dilation": first.dilation}
    groups = _common_groups(first, second)
    pairs = zip(_by_group(first, groups), _by_group(second, groups), strict=True)
    weight = torch.cat([_product(one, two, first.stride) for one, two in pairs])
    per_group = second.inputs // second.groups
    shifts = first.bias.view(second.groups, per_group)
    shifted = torch.einsum("goi,gi->go", second.weight.sum((2, 3)).view(second.groups, -1, per_group), shifts)
    return LinearMap(weight, shifted.flatten() + second.bias, groups, **shape)


def add(one: LinearMap, other: LinearMap) -> LinearMap:
    """Return the one convolution that computes the sum of two of the same image.

    Raises:
        NotOneConvolution: There is none.
    """
    if one.kernel == (1, 1) or (one.kernel < other.kernel and other.kernel != (1, 1)):
        one, other = other, one
    same = (one.inputs, one.outputs, one.stride) == (other.inputs, other.outputs, other.stride)
    reach = [
        tuple(d * (k - 1) - 2 * p for k, d, p in zip(each.kernel, each.dilation, each.padding, strict=True))
        for each in (one, other)
    ]
    if not same or reach[0] != reach[1]:
        raise NotOneConvolution("its branches have different strides or cover different pixels")
    if other.kernel != (1, 1) and one.dilation != other.dilation:
        raise NotOneConvolution("its branches are dilated differently")
    offsets = []
    for p, q, d in zip(one.padding, other.padding, one.dilation, strict=True):
        if (p - q) % d or p < q:
            raise NotOneConvolution("its branches cover different pixels")
        offsets.append((p - q) // d)
    groups = _common_groups(one, other, in_row=False)
    weight = torch.cat(list(_by_group(one, groups)))
    placed = torch.cat(list(_by_group(other, groups)))
    (top, left), (rows, columns) = offsets, other.kernel
    weight[:, :, top : top + rows, left : left + columns] += placed
    return replace(one, weight=weight, bias=one.bias + other.bias, groups=groups)


def _common_groups(first: LinearMap, second: LinearMap, *, in_row: bool = True) -> int:
    """Into how many groups that know nothing of each other two maps divide the channels together.

    In a row, `first` computes what `second` reads; otherwise both compute the same channels from the same ones.
    """
    if first.groups == second.groups:
        return first.groups
    for each, rest in ((first, second), (second, first)):
        # What keeps each channel for itself does not join the groups of the other.
        if each.groups == each.inputs == each.outputs and (in_row or rest.inputs == rest.outputs):
            return rest.groups
    return 1


def _by_group(linear: LinearMap, groups: int) -> list[Tensor]:
    """The weights of each of `groups` groups, (out / groups, in / groups, height, width), with zeros put in."""
    if linear.groups == groups:
        return [each.clone() for each in linear.weight.chunk(groups)]
    dense = linear.weight.new_zeros(linear.outputs, linear.inputs // groups, *linear.kernel)
    rows, columns = linear.outputs // linear.groups, linear.inputs // linear.groups
    for number in range(linear.groups):
        first = number * columns % (linear.inputs // groups)
        part = slice(number * rows, (number + 1) * rows)
        dense[part, first : first + columns] = linear.weight[part]
    return list(dense.chunk(groups))


def _product(first: Tensor, second: Tensor, stride: Sides) -> Tensor:
    """The kernel of `second`, (out, mid, h, w), after that of `first`, (mid, in, h, w), which has a stride."""
    if second.shape[2:] == (1, 1):
        return torch.einsum("om,mihw->oihw", second[:, :, 0, 0], first)
    if first.shape[2:] == (1, 1) and stride == (1, 1):
        return torch.einsum("omhw,mi->oihw", second, first[:, :, 0, 0])
    # The sum over the middle channels and the taps of both: a transposed convolution of one kernel with the other.
    return F.conv_transpose2d(second, first, stride=stride)
