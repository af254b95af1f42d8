"""A dense convolution as a depthwise-separable one: closed form first, then least squares on activations.

A dense k x k convolution W (out, in, k, k) is approximated by W^ with W^[o, c] = P[o, c] * d[c], a depthwise
kernel d[c] (k, k) and a pointwise weight P (out, in) per input channel c.

1. Without data the best W^ in the Frobenius norm is, for each c on its own, the first singular pair of the
   (out, k*k) slice W[:, c] (Eckart-Young): the output error it minimises is that under white input.
2. With activations x the mean square of y - W^x - b over positions is minimised, y being the outputs wanted.
   With D = W - W^, r = y - Wx and S = E[x x'] over input patches it is
   E[r r'] + 2 tr(E[r x'] D') + tr(D S D'), a function of moments alone: activations stream through once,
   memory does not grow with their number.
   Given d it is a linear least-squares problem in (P, b); given (P, b), one in each d[c]. Alternating the two
   exact solutions can only lower the error.
   A ridge term lambda * |W - W^|^2 stands for the data not seen: it is white input of variance lambda.

Papers: Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions", BMVC 2014;
Guo et al., "Network Decoupling: From Regular to Depthwise Separable Convolutions", BMVC 2018; Zhang et al.,
"Accelerating Very Deep Convolutional Networks for Classification and Detection", TPAMI 2016 (outputs of the
original network as the target for layers that see already approximated inputs).
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from zoo.surgery.moments import Moments, draw_positions, rows_at
from zoo.surgery.separable import SeparableConv2d


def separate(
    conv: nn.Conv2d,
    inputs: Tensor | None = None,
    targets: Tensor | None = None,
    *,
    positions: int = 8192,
    seed: int = 0,
) -> tuple[SeparableConv2d, float]:
    """The depthwise-separable convolution nearest to a dense one, and its relative error.

    conv:      groups=1; stride, padding, dilation, padding mode, bias or none, dtype and device are kept.
    inputs:    (N, in, H, W) typical inputs; None for the data-free split.
    targets:   (N, out, H', W') the outputs wanted; None for those of `conv` on `inputs`.
    positions: at most so many output positions, drawn at random with `seed`, are used.

    The error is the root mean square of what is missed over that of what is wanted: outputs at the positions
    used, or weights without inputs. On those positions it is never above that of the data-free split.
    """
    separable = split_rank_one(conv)
    if inputs is None:
        return separable, weight_error(conv, separable)
    moments = Moments(conv, separable)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        wanted = conv(inputs) if targets is None else targets
    count = max(1, positions // len(inputs))
    for index in range(len(inputs)):
        at = draw_positions(wanted.shape[-2:], count, generator)
        rows = None if targets is None else rows_at(targets[index], at)
        moments.add(inputs[index : index + 1], at, rows)
    return separable, fit(separable, moments)


@torch.no_grad()
def split_rank_one(conv: nn.Conv2d) -> SeparableConv2d:
    """The separable convolution whose product is nearest to the dense weight in the Frobenius norm.

    The depthwise and the pointwise part of each channel get equal norms; the sum of a depthwise kernel is not
    negative. The bias goes to the pointwise part; the depthwise bias, there only if `conv` has one, is zero.
    """
    biased = conv.bias is not None
    separable = SeparableConv2d(
        conv.in_channels,
        conv.out_channels,
        cast("tuple[int, int]", conv.kernel_size),
        stride=cast("tuple[int, int]", conv.stride),
        padding=cast("str | tuple[int, int]", conv.padding),
        dilation=cast("tuple[int, int]", conv.dilation),
        depthwise_bias=biased,
        bias=biased,
        padding_mode=conv.padding_mode,
    ).to(conv.weight.device, conv.weight.dtype)
    slices = conv.weight.detach().double().cpu().flatten(2).transpose(0, 1)  # (in, out, k*k)
    left, values, right = torch.linalg.svd(slices, full_matrices=False)
    _store(separable, right[:, 0], (left[..., 0] * values[:, :1]).T)
    if (
        conv.bias is not None
        and separable.depthwise.bias is not None
        and separable.pointwise.bias is not None
    ):
        separable.depthwise.bias.zero_()
        separable.pointwise.bias.copy_(conv.bias)
    for parameter in separable.parameters():
        parameter.requires_grad_(conv.weight.requires_grad)
    return separable.train(conv.training)


def merged_weight(separable: SeparableConv2d) -> Tensor:
    """The dense weight (out, in, k, k) that a separable convolution computes with, in float64."""
    depthwise = separable.depthwise.weight.detach().double()[:, 0]
    pointwise = separable.pointwise.weight.detach().double()[:, :, 0, 0]
    return torch.einsum("oc,cij->ocij", pointwise, depthwise)


def weight_error(conv: nn.Conv2d, separable: SeparableConv2d) -> float:
    """Relative error of the weights in the Frobenius norm, in [0, 1) after the rank-1 split."""
    weight = conv.weight.detach().double()
    return _ratio(float((weight - merged_weight(separable)).square().sum()), float(weight.square().sum()))


@torch.no_grad()
def fit(separable: SeparableConv2d, moments: Moments, *, ridge: float = 1e-3, rounds: int = 8) -> float:
    """Refine a rank-1 split by alternating least squares on the moments gathered; return the relative error.

    ridge:  lambda over the mean variance of a patch element.
    rounds: at most so many alternations; they end when one lowers the error by less than a thousandth.

    If nothing better is found, only the bias is fitted.
    Raises ZooError if the activations are not finite.
    """
    problem = moments.problem(ridge)
    kernels = moments.kernels.clone()
    pointwise, objective = problem.solve_pointwise(kernels)
    for _ in range(rounds if moments.whole else 0):
        problem.improve_kernels(kernels, pointwise)
        before = objective
        pointwise, objective = problem.solve_pointwise(kernels)
        if not before - objective > 1e-3 * before:
            break
    error, unrefined = problem.error(kernels, pointwise), problem.error(moments.kernels, moments.pointwise)
    if not error < unrefined:  # the ridge term may trade the data at hand for data unseen
        kernels, pointwise, error = moments.kernels, moments.pointwise, unrefined
    bias = problem.bias(kernels, pointwise)
    if bias is not None and separable.pointwise.bias is not None:
        separable.pointwise.bias.copy_(bias)
    _store(separable, kernels if moments.whole else moments.depthwise, pointwise)
    return _ratio(error, moments.wanted_power())


@torch.no_grad()
def _store(separable: SeparableConv2d, kernels: Tensor, pointwise: Tensor) -> None:
    """Write kernels (in, k*k) and pointwise weights (out, in) with equal norms and no negative kernel sum."""
    kernel_norm = kernels.norm(dim=1)
    pointwise_norm = pointwise.norm(dim=0)
    scale = torch.sqrt(pointwise_norm / kernel_norm)
    # A channel that contributes nothing keeps a kernel of norm one: were both zero no gradient would flow.
    scale = torch.where(pointwise_norm > 0, scale, 1 / kernel_norm)
    scale = torch.where(kernels.sum(dim=1) < 0, -scale, scale)
    separable.depthwise.weight.copy_((kernels * scale[:, None]).view_as(separable.depthwise.weight))
    separable.pointwise.weight.copy_((pointwise / scale).view_as(separable.pointwise.weight))


def _ratio(missed: float, wanted: float) -> float:
    return math.sqrt(max(missed, 0.0) / wanted) if wanted > 0 else 0.0
