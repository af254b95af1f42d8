"""Rounding to levels with a straight-through gradient, in as few passes over memory as can be.

Papers: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018; Esser et al., "Learned Step Size Quantization", ICLR 2020.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

#: Half a step, and a hair more so that a tie counts as inside the range.
_HALF = 0.5 + 1e-3


def fake_round(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """Return scale * clamp(round(x / scale), low, high), computed in float32, in the type and layout of `x`.

    The gradient of the scale is that of LSQ without the factor 1 / sqrt(n * levels). That factor balances plain
    gradient descent; Adam takes the same step whatever the gradient's size, as long as it is well above Adam's
    epsilon.

    Args:
        x: Any shape.
        scale: (1,) for the whole tensor, or (C,) for slices along dimension 0.
        low: The lowest level.
        high: The highest level.
    """
    if torch.is_grad_enabled():
        return cast(Tensor, _FakeRound.apply(x, scale, low, high))
    steps = along_channels(scale, x)
    return torch.div(x.float(), steps).clamp_(low, high).round_().mul_(steps).to(x.dtype)


class _FakeRound(torch.autograd.Function):
    """With u = x / s, q its level and m = 1 inside the range: dy/dx = m and dy/ds = q - m * u.

    Kept for the gradient are y and u - q, which tells both: it is at most 1/2 inside the range, and there
    dy/ds is its negative; outside, dy/ds is y / s.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        steps = along_channels(scale, x)
        wide = x.float()
        error = torch.div(wide, steps) if wide is x else wide.div_(steps)
        levels = error.clamp(low, high).round_()
        error.sub_(levels)
        y = levels.mul_(steps).to(x.dtype)
        ctx.save_for_backward(error, y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        error, y, scale = ctx.saved_tensors
        wide = gradient.float()
        if wide.stride() != error.stride():
            wide = torch.empty_like(error).copy_(wide)
        inside = torch.ops.aten.hardtanh_backward(wide, error, -_HALF, _HALF)
        scale_gradient = None
        if ctx.needs_input_grad[1]:
            outside = wide - inside
            channels = scale.numel()
            scale_gradient = _dot(outside, y.float(), channels) / scale - _dot(inside, error, channels)
        return inside.to(gradient.dtype), scale_gradient, None, None


def along_channels(scale: Tensor, x: Tensor) -> Tensor:
    """Return a scale, (1,) or (C,), in a shape that multiplies `x` along dimension 0."""
    return scale.view(-1, *(1,) * (x.ndim - 1)) if scale.numel() > 1 else scale


def _dot(one: Tensor, other: Tensor, channels: int) -> Tensor:
    """The sum of products over all but the first dimension, (C,), or over everything, (1,)."""
    if channels > 1:
        return (one * other).flatten(1).sum(1)
    if one.stride() != other.stride():
        return (one * other).sum().view(1)
    # Both are dense and laid out alike: any order of the elements will do.
    flat = ((one.numel(),), (1,))
    return torch.dot(one.as_strided(*flat), other.as_strided(*flat)).view(1)
