"""A dense convolution as a depthwise-separable one: closed form first, then least squares on activations.

A dense k x k convolution W (out, in, k, k) is approximated by W^ with W^[o, c] = P[o, c] * d[c], a depthwise
kernel d[c] (k, k) and a pointwise weight P (out, in) per input channel c.

1. Without data the best W^ in the Frobenius norm is, for each c on its own, the first singular pair of the
   (out, k*k) slice W[:, c] (Eckart-Young): the output error it minimises is that under white input.
2. With activations x the mean square of y - W^x - b over positions is minimised, y being the outputs wanted;
   :mod:`zoo.surgery.reconstruction.statistics` makes that a function of moments alone. Given d it is a linear
   least-squares problem in (P, b); given (P, b), one in each d[c]. Alternating the two exact solutions can only lower
   the error.

Papers: Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions", BMVC 2014;
Guo et al., "Network Decoupling: From Regular to Depthwise Separable Convolutions", BMVC 2018; Zhang et al.,
"Accelerating Very Deep Convolutional Networks for Classification and Detection", TPAMI 2016 (outputs of the
original network as the target for layers that see already approximated inputs).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from zoo.modules.separable import SeparableConv2d
from zoo.surgery.reconstruction import (
    ActivationStatistics,
    Layer,
    LeastSquares,
    draw_positions,
    extract_patches,
    fits_in_memory,
    pixels_at,
    relative_error,
)


def separate(
    conv: nn.Conv2d,
    inputs: Tensor | None = None,
    targets: Tensor | None = None,
    *,
    positions: int = 8192,
    seed: int = 0,
) -> tuple[SeparableConv2d, float]:
    """Return the depthwise-separable convolution nearest to a dense one, and its relative error.

    Args:
        conv: A convolution without groups; stride, padding, dilation, padding mode, bias, type and device are kept.
        inputs: Typical inputs, (N, in, H, W); None for the split of the weights alone.
        targets: The outputs wanted, (N, out, H', W'); None for those of `conv`.
        positions: At most this many output positions, drawn at random, are used.
        seed: Positions are drawn with it.

    Returns:
        The convolution, and the root mean square of what is missed over that of what is wanted: outputs at the
        positions used, or weights without inputs. On those positions it is never above that of the split.
    """
    separable = split_rank_one(conv)
    if inputs is None:
        return separable, weight_error(conv, separable)
    moments = SeparableStatistics(conv, separable)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        wanted = conv(inputs) if targets is None else targets
    count = max(1, positions // len(inputs))
    for index in range(len(inputs)):
        at = draw_positions(wanted.shape[-2:], count, generator)
        rows = None if targets is None else pixels_at(targets[index], at)
        moments.add(inputs[index : index + 1], at, rows)
    return separable, refine_split(separable, moments)


@torch.no_grad()
def split_rank_one(conv: nn.Conv2d) -> SeparableConv2d:
    """Return the separable convolution whose product is nearest to the dense weight in the Frobenius norm.

    The depthwise and the pointwise part of each channel get equal norms, and the sum of a depthwise kernel is not
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
    """Return the dense weight, (out, in, k, k) in float64, that a separable convolution computes with."""
    depthwise = separable.depthwise.weight.detach().double()[:, 0]
    pointwise = separable.pointwise.weight.detach().double()[:, :, 0, 0]
    return torch.einsum("oc,cij->ocij", pointwise, depthwise)


def weight_error(conv: nn.Conv2d, separable: SeparableConv2d) -> float:
    """Return the relative error of the weights in the Frobenius norm; in [0, 1) after the rank-1 split."""
    weight = conv.weight.detach().double()
    return relative_error(
        float((weight - merged_weight(separable)).square().sum()), float(weight.square().sum())
    )


@torch.no_grad()
def refine_split(
    separable: SeparableConv2d, moments: SeparableStatistics, *, ridge: float = 1e-3, rounds: int = 8
) -> float:
    """Refine a rank-1 split by alternating least squares on the statistics gathered.

    If nothing better is found, only the bias is fitted.

    Args:
        separable: The split, changed in place.
        moments: The statistics.
        ridge: lambda, relative to the mean variance of a patch element.
        rounds: At most this many alternations; they end when one lowers the error by less than a thousandth.

    Returns:
        The relative error.

    Raises:
        ZooError: The activations are not finite.
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
    bias = problem.best_bias(kernels, pointwise)
    if bias is not None and separable.pointwise.bias is not None:
        separable.pointwise.bias.copy_(bias)
    _store(separable, kernels if moments.whole else moments.depthwise, pointwise)
    return relative_error(error, moments.target_power())


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


class SeparableReplacement:
    """Fit the separable form of one convolution; a :class:`zoo.surgery.reconstruction.LayerReplacement`."""

    def __init__(self, layer: Layer) -> None:
        self._conv = cast(nn.Conv2d, layer)
        self._separable = split_rank_one(self._conv)
        self._moments: SeparableStatistics | None = None

    def observe(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Add the data of one image, (1, in, H, W), at some positions; see the protocol."""
        if self._moments is None:
            self._moments = SeparableStatistics(self._conv, self._separable)
        self._moments.add(image, at, targets)

    def build(self) -> tuple[nn.Module, float] | str:
        """Return the separable convolution and its relative error."""
        if self._moments is None:
            return self._separable, weight_error(self._conv, self._separable)
        return self._separable, refine_split(self._separable, self._moments)


class SeparableStatistics:
    """Statistics of a dense convolution's patches, to fit its separable form to.

    If patches are too wide for their moments to be held, the depthwise outputs of the rank-1 split take their place.
    """

    def __init__(self, conv: nn.Conv2d, separable: SeparableConv2d) -> None:
        self._conv = conv
        self.whole = fits_in_memory(1, conv.weight[0].numel())
        self.depthwise = separable.depthwise.weight.detach().double().cpu().flatten(1)
        self.pointwise = separable.pointwise.weight.detach().double().cpu()[:, :, 0, 0]
        if self.whole:
            self.kernels, weight = self.depthwise, conv.weight.flatten(1)
        else:
            self.kernels = torch.ones(conv.in_channels, 1, dtype=torch.float64)
            weight = self.pointwise
        self._moments = ActivationStatistics(weight[None], conv.bias)

    @torch.no_grad()
    def add(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Add the data of one image.

        Args:
            image: An input, (1, in, H, W).
            at: (positions,) flat indices into the output.
            targets: (positions, out) outputs wanted there; None for those of the dense convolution.
        """
        seen = extract_patches(self._conv, image, at).float().cpu()
        if not self.whole:
            if targets is None:
                targets = pixels_at(self._conv(image)[0], at)
            seen = torch.einsum("ncj,cj->nc", seen, self.depthwise.float())
        self._moments.add(seen.flatten(1)[:, None], targets)

    def target_power(self) -> float:
        """Return the mean square of the wanted outputs, summed over channels."""
        return self._moments.target_power()

    def problem(self, ridge: float) -> SeparableProblem:
        """Return the least-squares problem that the data defines; nothing can be added afterwards.

        Raises:
            ZooError: The activations are not finite.
        """
        return SeparableProblem(self._moments.problem(ridge), self.kernels.shape[1])


class SeparableProblem:
    """The least-squares problem for W^ = pointwise (out, in) * kernels (in, taps)."""

    def __init__(self, problem: LeastSquares, taps: int) -> None:
        self._problem = problem
        self._taps = taps
        self._channels = problem.weight.shape[2] // taps
        self._weight, self._goal = problem.weight[0], problem.goal[0].view(-1, self._channels, taps)
        assert problem.second is not None  # it is only asked for with data
        assert problem.cross is not None
        self._second = problem.second[0]
        self._without = problem.power + float((self._weight * (problem.goal + problem.cross)[0]).sum())
        span = range(0, len(self._second), taps)
        self._blocks = torch.linalg.cholesky(
            torch.stack([self._second[i : i + taps, i : i + taps] for i in span])
        )

    @staticmethod
    def _merge(kernels: Tensor, pointwise: Tensor) -> Tensor:
        return torch.einsum("oi,it->oit", pointwise, kernels).flatten(1)[None]

    def error(self, kernels: Tensor, pointwise: Tensor) -> float:
        """Return the mean square output error on the data with the best bias, summed over output channels.

        Args:
            kernels: (in, taps).
            pointwise: (out, in).
        """
        return self._problem.error(self._merge(kernels, pointwise))

    def best_bias(self, kernels: Tensor, pointwise: Tensor) -> Tensor | None:
        """Return the best bias (out,) for kernels (in, taps) and pointwise weights (out, in), or None."""
        return self._problem.bias(self._merge(kernels, pointwise))

    def solve_pointwise(self, kernels: Tensor) -> tuple[Tensor, float]:
        """Return the best pointwise weights (out, in) for kernels (in, taps), none of them zero, and the objective."""
        columns = self._second.view(-1, self._channels, self._taps)
        seen = torch.zeros(len(columns), self._channels, dtype=torch.float64)
        for tap in range(self._taps):  # tap by tap, to need no second copy of the moments
            seen.addcmul_(columns[:, :, tap], kernels[:, tap])
        gram = torch.einsum("it,itj->ij", kernels, seen.view(self._channels, self._taps, -1))
        goal = torch.einsum("oit,it->io", self._goal, kernels)
        factor = torch.linalg.cholesky((gram + gram.T) / 2)
        pointwise = torch.cholesky_solve(goal, factor).T
        # Where the gradient in P vanishes, the terms in W^ add up to minus its product with the goal.
        return pointwise, self._without - float((pointwise.T * goal).sum())

    def improve_kernels(self, kernels: Tensor, pointwise: Tensor) -> None:
        """Set each kernel in turn to the best one given all others, in place.

        Afterwards every kernel has norm one, which the next pointwise solution compensates for.

        Args:
            kernels: (in, taps).
            pointwise: (out, in).
        """
        weights = pointwise.T @ pointwise
        goal = torch.einsum("oi,oit->it", pointwise, self._goal)
        for channel in range(self._channels):
            own = weights[channel, channel]
            if own <= 0:
                continue
            rows = self._second[channel * self._taps : (channel + 1) * self._taps]
            slope = goal[channel] - rows @ (weights[channel][:, None] * kernels).flatten()
            step = torch.cholesky_solve(slope[:, None], self._blocks[channel]) / own
            better = kernels[channel] + step[:, 0]
            if bool(better.any()):  # a kernel of zeros would leave its pointwise weights undetermined
                kernels[channel] = better
        kernels /= kernels.norm(dim=1, keepdim=True)
