"""A dense convolution as an inverted residual block, in closed form.

Without activations inside, a block of m hidden channels computes with W^[o, c, t] = sum over m of
P[o, m] E[m, c] d[m, t], a canonical polyadic (CP) decomposition of rank m; with a residual link the identity is
added to it.

1. The moments S of patches, taken as S_c (x) S_t, make a metric. In it the input channels are turned into their
   principal directions, each (out, taps) slice of the best weight gets its singular value decomposition, and the
   m strongest pairs of all slices are kept: network decoupling in a rotated basis.
2. Alternating least squares improves the three factors in that metric.
3. P and the bias are the exact least-squares solution for these E and d, on the moments as they are.

An activation is made nearly transparent: the channels before it are scaled and lifted to mean 3 and standard
deviation 0.6, so that ReLU6 clips five deviations away, and P takes scale and lift back. Padding then comes before the
expanding part, as zeros padded after a lift would not stand for zeros.

Papers: Sandler et al., "MobileNetV2", CVPR 2018; Guo et al., "Network Decoupling", BMVC 2018; Lebedev et al.,
"Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition", ICLR 2015.
"""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn

from zoo.modules.inverted_residual import InvertedResidualBlock
from zoo.surgery.reconstruction import (
    ActivationStatistics,
    Layer,
    LeastSquares,
    NormalEquations,
    cholesky_factor,
    extract_patches,
    fits_in_memory,
    leading_rows,
    match_layer,
    relative_error,
    solve_symmetric,
    split_metric,
    standard_deviation,
    unfold_weight,
)

Activation = Literal["none", "relu", "relu6"]
_ACTIVATIONS: dict[Activation, type[nn.Module] | None] = {"none": None, "relu": nn.ReLU, "relu6": nn.ReLU6}
_RIDGE = 1e-3
#: Mean of the channels before an activation, the middle of what ReLU6 lets pass, and their standard deviation.
_LIFT, _DEVIATION = 3.0, 0.6
_ROUNDS = 8


def hidden_channels(conv: nn.Conv2d, expansion: float) -> int:
    """Return the channels of the depthwise part, at most as many as an exact form needs."""
    exact = min(conv.out_channels, math.prod(conv.kernel_size)) * conv.in_channels
    return min(max(1, round(expansion * conv.in_channels)), exact)


def keeps_shape(conv: nn.Conv2d) -> bool:
    """Return whether a residual link fits: the output has the channels, height and width of the input."""
    centred = tuple(d * (k - 1) / 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    same = conv.padding == "same" or conv.padding == centred
    return conv.in_channels == conv.out_channels and tuple(conv.stride) == (1, 1) and same


def block_unsupported_reason(layer: nn.Module, expansion: float, activation: Activation) -> str | None:
    """Return why a convolution cannot or need not become an inverted residual block, or None."""
    if type(layer) is not nn.Conv2d:
        return f"{type(layer).__name__} is not a plain Conv2d"
    taps = math.prod(layer.kernel_size)
    if taps == 1:
        return "1x1 kernel"
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    if activation != "none" and (left != right or top != bottom):
        return "it pads its two sides unequally, which a block with activations cannot"
    if layer.groups > 1:
        return f"grouped already (groups={layer.groups})"
    hidden = hidden_channels(layer, expansion)
    rest = hidden * (taps + layer.out_channels)
    dense = layer.in_channels * layer.out_channels * taps
    if layer.in_channels * hidden * math.prod(layer.stride) + rest >= dense:
        return f"a block with {hidden} hidden channels would save nothing"
    if not fits_in_memory(1, layer.in_channels * taps):
        return f"its patches of {layer.in_channels * taps} numbers are too wide to fit a block to"
    return None


class InvertedResidualReplacement:
    """Fit the inverted residual block of one convolution; a :class:`zoo.surgery.reconstruction.LayerReplacement`."""

    def __init__(self, layer: Layer, expansion: float, activation: Activation, *, residual: bool) -> None:
        self._conv = cast(nn.Conv2d, layer)
        self._hidden = hidden_channels(self._conv, expansion)
        self._activation = activation
        self._residual = residual and keeps_shape(self._conv)
        self._moments: ActivationStatistics | None = None

    def observe(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Add the data of one image, (1, in, H, W), at some positions; see the protocol."""
        if self._moments is None:
            self._moments = self._begin()
        seen = extract_patches(self._conv, image, at).float().cpu()
        self._moments.add(seen.flatten(1)[:, None], targets)

    def _begin(self) -> ActivationStatistics:
        return ActivationStatistics(self._conv.weight.flatten(1)[None], self._conv.bias)

    def build(self) -> tuple[nn.Module, float] | str:
        """Return the block and its relative error."""
        moments, taps = self._moments or self._begin(), math.prod(self._conv.kernel_size)
        problem = moments.problem(_RIDGE * max(1.0, self._conv.in_channels * taps / max(moments.count, 1)))
        link = torch.zeros_like(problem.weight)
        if self._residual:
            link.view(len(link[0]), -1, taps)[..., taps // 2] = torch.eye(len(link[0]))
        rest = NormalEquations(problem.goal - problem.times_second(link), problem.second)
        expand, kernels = decompose(rest, self._hidden, taps)
        rows = torch.einsum("mc,mt->mct", expand, kernels).flatten(1)[None]
        project = rest.coefficients(rows)
        merged = project @ rows + link
        module = self._built(problem, expand, kernels, rows, project[0], problem.bias(merged))
        return module, relative_error(problem.error(merged), moments.target_power())

    @torch.no_grad()
    def _built(
        self,
        problem: LeastSquares,
        expand: Tensor,
        kernels: Tensor,
        rows: Tensor,
        project: Tensor,
        bias: Tensor | None,
    ) -> nn.Module:
        conv, active = self._conv, self._activation != "none"
        padding = cast("str | tuple[int, int]", conv.padding)
        if active:  # in numbers: "same" means something else to a 1 x 1 convolution
            left, _, top, _ = conv._reversed_padding_repeated_twice
            padding = (top, left)
        module = InvertedResidualBlock(
            conv.in_channels,
            self._hidden,
            conv.out_channels,
            cast("tuple[int, int]", conv.kernel_size),
            stride=cast("tuple[int, int]", conv.stride),
            padding=padding,
            dilation=cast("tuple[int, int]", conv.dilation),
            bias=bias is not None or active,
            padding_mode=conv.padding_mode,
            activation=_ACTIVATIONS[self._activation],
            residual=self._residual,
            pad_first=active,
        )
        taps = kernels.shape[1]
        if active:
            mean1 = expand @ problem.mean[0, taps // 2 :: taps]
            inner = (
                None if problem.second is None else problem.second[0, taps // 2 :: taps, taps // 2 :: taps]
            )
            scale1 = _DEVIATION / standard_deviation(expand, inner)
            mean2 = rows[0] @ problem.mean[0]
            scale2 = _DEVIATION / standard_deviation(
                rows[0], None if problem.second is None else problem.second[0]
            )
            biases = [
                _LIFT - scale1 * mean1,
                # What the depthwise part makes of the first lift goes, the second one comes.
                _LIFT - scale2 * mean2 - scale2 / scale1 * kernels.sum(1) * (_LIFT - scale1 * mean1),
            ]
            at_zero = project @ (mean2 - _LIFT / scale2)
            biases.append((0 if bias is None else bias) + at_zero)
        else:
            # Equal norms before, in and after the depthwise part.
            sizes = torch.stack([expand.norm(dim=1), kernels.norm(dim=1), project.norm(dim=0)]).clamp_min(
                1e-12
            )
            even = sizes.log().mean(0).exp()
            scale1, scale2 = even / sizes[0], even * even / (sizes[0] * sizes[1])
            biases = [torch.zeros_like(scale1), torch.zeros_like(scale1)]
            biases += [] if bias is None else [bias]
        parts = (module.expand, module.depthwise, module.project)
        weights = (expand * scale1[:, None], kernels * (scale2 / scale1)[:, None], project / scale2)
        for index, (layer, weight) in enumerate(zip(parts, weights, strict=True)):
            layer.weight.copy_(weight.view_as(layer.weight))
            if layer.bias is not None:
                layer.bias.copy_(biases[index])
        return match_layer(conv, module)


def decompose(problem: NormalEquations, hidden: int, taps: int) -> tuple[Tensor, Tensor]:
    """Return E (hidden, in) and d (hidden, taps) whose products with the best P approximate a problem's solution.

    Args:
        problem: The normal equations for the dense weight, with one group.
        hidden: Channels of the depthwise part.
        taps: Positions in the kernel.
    """
    inner, outer = split_metric(problem.second, taps)
    best = problem.solution()
    slices = best.view(len(best[0]), -1, taps)
    roots = None if inner is None or outer is None else (cholesky_factor(inner)[0], cholesky_factor(outer)[0])
    if roots is not None:
        slices = torch.einsum("oct,cd,tu->odu", slices, *roots)
    basis = leading_rows(unfold_weight(slices.flatten(1)[None], taps, None), None)[0][0]
    basis = torch.linalg.qr(basis.T)[0]  # (in, directions)
    turned = torch.einsum("oct,cd->dot", slices, basis)
    _, strength, right = torch.linalg.svd(turned, full_matrices=False)
    strongest = strength.flatten().argsort(descending=True, stable=True)[:hidden]
    expand = basis.T[strongest // strength.shape[1]]
    kernels = right.flatten(0, 1)[strongest]
    expand, kernels = _alternate(slices, expand, kernels)
    if roots is not None:
        expand = torch.linalg.solve_triangular(roots[0], expand, upper=False, left=False)
        kernels = torch.linalg.solve_triangular(roots[1], kernels, upper=False, left=False)
    return expand, kernels


def _alternate(slices: Tensor, expand: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
    """Improve factors of slices (out, in, taps) by alternating least squares; rows of norm one come back."""
    flat, shape = slices.flatten(1), slices.shape[1:]
    for _ in range(_ROUNDS):
        rows = torch.einsum("mc,mt->mct", expand, kernels).flatten(1)
        project = _best_factor(rows @ flat.T, expand, kernels)
        projected = (project @ flat).view(-1, *shape)
        expand = _best_factor(torch.einsum("mct,mt->mc", projected, kernels), kernels, project)
        expand = nn.functional.normalize(expand, dim=1)
        kernels = _best_factor(torch.einsum("mct,mc->mt", projected, expand), expand, project)
        kernels = nn.functional.normalize(kernels, dim=1)
    return expand, kernels


def _best_factor(right: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The factor (m, any) that goes with two others; a trace of ridge keeps like components apart."""
    gram = (first @ first.T) * (second @ second.T)
    gram.diagonal().add_(1e-6 * gram.diagonal().mean())
    return solve_symmetric(gram, right)
