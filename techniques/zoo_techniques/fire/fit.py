"""A dense convolution as a fire module, a transposed one as a transposed fire module, in closed form.

With a linear squeeze A (s, in) a fire module computes with the weight W^[o, c, t] = sum over s of B[o, s, t] A[s, c],
where B is zero outside the centre t = 0 for the outputs of the 1 x 1 branch.

1. From the moments of patches come the best weight W* for all taps and the best one for the centre alone.
2. The squeeze is the truncated singular value decomposition of what its outputs are needed for: the centre
   weights of the 1 x 1 branch and all taps of the other one, in the metric of the inputs.
3. The weights of both branches and the biases are the exact least-squares solution for that squeeze.

A ReLU after the squeeze of a fire module is made nearly transparent: its bias lifts the channels by five standard
deviations over zero, and the biases after it take that back. What remains is the border, where zeros are padded after
the ReLU. Each pixel of a transposed convolution sees another tap, so there one bias could not take the lift back: its
squeeze stays linear.

Papers: Iandola et al., "SqueezeNet", arXiv:1602.07360, 2016; Beheshti and Johnsson, "Squeeze U-Net", CVPRW 2020.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from zoo.modules.fire import FireModule, TransposedFireModule
from zoo.surgery.reconstruction import (
    ActivationStatistics,
    Layer,
    LeastSquares,
    NormalEquations,
    balance_factors,
    dense_weight,
    extract_patches,
    fits_in_memory,
    leading_rows,
    match_layer,
    relative_error,
    split_metric,
    standard_deviation,
    store_dense_weight,
    unfold_weight,
)

_RIDGE = 1e-3
#: Standard deviations by which channels are lifted before a ReLU.
_LIFT = 5.0


def centre_of(layer: nn.Conv2d | nn.ConvTranspose2d) -> int:
    """Return the tap of the 1 x 1 branch: the middle one, or the first one of a transposed convolution."""
    return 0 if isinstance(layer, nn.ConvTranspose2d) else math.prod(layer.kernel_size) // 2


def widths(layer: nn.Conv2d | nn.ConvTranspose2d, squeeze: float, share: float) -> tuple[int, int, int]:
    """Return the channels of the squeeze, of the 1 x 1 and of the k x k branch."""
    first = min(max(1, round(share * layer.out_channels)), layer.out_channels - 1)
    narrow = min(max(1, round(squeeze * layer.out_channels)), layer.in_channels)
    return narrow, first, layer.out_channels - first


def fire_unsupported_reason(layer: nn.Module, squeeze: float, share: float) -> str | None:
    """Return why a convolution cannot or need not become a fire module, or None."""
    if type(layer) not in (nn.Conv2d, nn.ConvTranspose2d):
        return f"{type(layer).__name__} is not a plain Conv2d or ConvTranspose2d"
    conv = cast("nn.Conv2d | nn.ConvTranspose2d", layer)
    kernel, taps = conv.kernel_size, math.prod(conv.kernel_size)
    if taps == 1:
        return "1x1 kernel"
    if conv.groups > 1:
        return f"grouped already (groups={conv.groups})"
    if isinstance(conv, nn.ConvTranspose2d):
        plain = conv.padding == conv.output_padding == (0, 0) and conv.dilation == (1, 1)
        if not plain or kernel != conv.stride or kernel[0] != kernel[1]:
            return "transposed convolution whose kernel is not its stride"
    else:
        centred = tuple(d * (k - 1) // 2 for d, k in zip(conv.dilation, kernel, strict=True))
        if any(k % 2 == 0 for k in kernel):
            return f"{kernel[0]}x{kernel[1]} kernel has no centre for a 1x1 branch"
        if conv.padding not in ("same", centred):
            return f"padding {conv.padding} does not centre its kernel, so a 1x1 branch would not fit"
    if conv.out_channels < 2:
        return "one output channel cannot be shared between two branches"
    s, first, second = widths(conv, squeeze, share)
    down = 1 if isinstance(conv, nn.ConvTranspose2d) else math.prod(conv.stride)
    expand = s * (first + second * taps)
    dense = conv.in_channels * conv.out_channels * taps
    if conv.in_channels * s * down + expand >= dense:
        return "a fire module would save nothing"
    if not fits_in_memory(1, conv.in_channels * taps):
        return f"its patches of {conv.in_channels * taps} numbers are too wide to fit a fire module to"
    return None


class FireReplacement:
    """Fit the fire module of one convolution; a :class:`zoo.surgery.reconstruction.LayerReplacement`."""

    def __init__(self, layer: Layer, squeeze: float, share: float, *, relu: bool = False) -> None:
        self._layer = cast("nn.Conv2d | nn.ConvTranspose2d", layer)
        self._squeeze, self._first, self._second = widths(self._layer, squeeze, share)
        self._relu = relu and isinstance(layer, nn.Conv2d)
        self._moments: ActivationStatistics | None = None

    def observe(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Add the data of one image, (1, in, H, W), at some positions; see the protocol."""
        if self._moments is None:
            self._moments = self._begin()
        seen = extract_patches(self._layer, image, at).float().cpu()
        self._moments.add(seen.flatten(1)[:, None], targets)

    def _begin(self) -> ActivationStatistics:
        return ActivationStatistics(dense_weight(self._layer).flatten(2), self._layer.bias)

    def build(self) -> tuple[nn.Module, float] | str:
        """Return the fire module and its relative error."""
        moments = self._moments or self._begin()
        taps = math.prod(self._layer.kernel_size)
        problem = moments.problem(_RIDGE * max(1.0, self._layer.in_channels * taps / max(moments.count, 1)))
        rows, first, second = fit_branches(problem, self._squeeze, self._first, taps, centre_of(self._layer))
        merged = torch.zeros_like(problem.weight).view(self._first + self._second, -1, taps)
        merged[: self._first, :, centre_of(self._layer)] = (first @ rows)[0]
        merged[self._first :] = torch.einsum("ost,sc->oct", second[0], rows[0])
        flat = merged.flatten(1)[None]
        module = self._built(problem, rows, first, second, problem.bias(flat))
        return module, relative_error(problem.error(flat), moments.target_power())

    @torch.no_grad()
    def _built(
        self, problem: LeastSquares, rows: Tensor, first: Tensor, second: Tensor, bias: Tensor | None
    ) -> nn.Module:
        layer = self._layer
        module = _module(layer, self._squeeze, (self._first, self._second), relu=self._relu)
        both = torch.cat([first[0], second[0].transpose(1, 2).flatten(0, 1)])[
            None
        ]  # (1, first + taps * second, s)
        rows, both = balance_factors((rows, both))
        first = both[:, : self._first]
        second = both[0, self._first :].view(self._second, -1, self._squeeze).transpose(1, 2)
        store_dense_weight(module.squeeze, rows)
        wide = module.expand3 if isinstance(module, FireModule) else module.expand2
        store_dense_weight(module.expand1, first)
        store_dense_weight(wide, second.flatten(1)[None])
        if module.squeeze.bias is None or module.expand1.bias is None or wide.bias is None:
            return module
        assert bias is not None  # the layer has one where its stand-in has
        module.squeeze.bias.zero_()
        if self._relu:
            lift = _lift(problem, rows, centre_of(layer), second.shape[-1])
            module.squeeze.bias.copy_(lift)
            bias = bias - torch.cat([first[0], second.sum(2)]) @ lift
        module.expand1.bias.copy_(bias[: self._first])
        wide.bias.copy_(bias[self._first :])
        return module


def fit_branches(
    problem: LeastSquares, squeeze: int, first: int, taps: int, centre: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best weights of a fire module with a linear squeeze.

    Args:
        problem: The least-squares problem of the dense layer.
        squeeze: Channels s of the squeeze.
        first: Output channels of the 1 x 1 branch.
        taps: Positions in the kernel.
        centre: The tap of the 1 x 1 branch.

    Returns:
        The squeeze (1, s, in), and the expanding weights (1, first, s) and (1, second, s, taps).
    """
    inner, outer = split_metric(problem.second, taps)
    middle = None if problem.second is None else problem.second[:, centre::taps, centre::taps]
    centred = NormalEquations(problem.goal[:, :first, centre::taps], middle).solution()
    whole = problem.solution()[:, first:]
    needed = torch.cat([centred, unfold_weight(whole, taps, outer)], dim=1)
    rows = leading_rows(needed, inner)[0][:, :squeeze]
    rows = rows / rows.norm(dim=2, keepdim=True).clamp_min(1e-12)
    reduced = problem.project(rows, taps)
    middle = reduced.second
    middle = None if middle is None else middle[:, centre::taps, centre::taps]
    narrow = NormalEquations(reduced.goal[:, :first, centre::taps], middle).solution()
    wide = NormalEquations(reduced.goal[:, first:], reduced.second).solution()
    return rows, narrow, wide.view(1, -1, squeeze, taps)


def _lift(problem: LeastSquares, rows: Tensor, centre: int, taps: int) -> Tensor:
    """What to add to the squeezed channels so that a ReLU lets nearly all of their values pass."""
    mean: Tensor = (rows @ problem.mean[:, centre::taps, None])[0, :, 0]
    spread = None if problem.second is None else problem.second[0, centre::taps, centre::taps]
    return _LIFT * standard_deviation(rows[0], spread) - mean


def _module(
    layer: nn.Conv2d | nn.ConvTranspose2d, squeeze: int, expand: tuple[int, int], *, relu: bool
) -> FireModule | TransposedFireModule:
    activation = nn.ReLU() if relu else None
    bias = layer.bias is not None
    if isinstance(layer, nn.ConvTranspose2d):
        size = layer.kernel_size[0]
        transposed = TransposedFireModule(
            layer.in_channels, squeeze, expand, kernel_size=size, bias=bias, activation=activation
        )
        return match_layer(layer, transposed)
    fire = FireModule(
        layer.in_channels,
        squeeze,
        expand,
        kernel_size=cast("tuple[int, int]", layer.kernel_size),
        stride=cast("tuple[int, int]", layer.stride),
        padding=cast("str | tuple[int, int]", layer.padding),
        dilation=cast("tuple[int, int]", layer.dilation),
        bias=bias,
        padding_mode=layer.padding_mode,
        activation=activation,
    )
    return match_layer(layer, fire)
