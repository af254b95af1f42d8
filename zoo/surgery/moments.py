"""Moments of a convolution's input patches and wanted outputs, and the least-squares problems they define.

See :mod:`zoo.surgery.factorize` for the mathematics. Everything here streams: an image at a time goes in,
sums of fixed size stay.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.errors import ZooError
from zoo.surgery.separable import SeparableConv2d

#: Beyond this many patch elements (in * k * k) the second moments of patches (here 328 MB) are not held;
#: the depthwise kernels then stay those of the rank-1 split and only the pointwise part is fitted.
WIDEST_PATCH = 6400
#: Patches gathered before their products are taken: large products run at full speed.
_ROWS = 2048


def draw_positions(size: torch.Size | tuple[int, int], count: int, generator: torch.Generator) -> Tensor:
    """`count` distinct flat indices into an (H', W') output, or all of them if there are no more."""
    total = size[0] * size[1]
    return torch.arange(total) if total <= count else torch.randperm(total, generator=generator)[:count]


def rows_at(image: Tensor, at: Tensor) -> Tensor:
    """The pixels of (C, H, W) at flat positions: (positions, C)."""
    return image.flatten(1)[:, at.to(image.device)].T


def output_size(conv: nn.Conv2d, height: int, width: int) -> tuple[int, int]:
    """(H', W') of a convolution of an (H, W) input."""
    left, right, top, bottom = conv._reversed_padding_repeated_twice
    sides = ((height + top + bottom, 0), (width + left + right, 1))
    return cast(
        "tuple[int, int]",
        tuple((n - conv.dilation[a] * (conv.kernel_size[a] - 1) - 1) // conv.stride[a] + 1 for n, a in sides),
    )


def patches(conv: nn.Conv2d, image: Tensor, at: Tensor) -> Tensor:
    """What `conv` sees at the flat output positions `at` of one image: (1, in, H, W) -> (positions, in, k*k).

    Only the patches asked for are copied, so that a large kernel or image costs no large unfolding.
    """
    width_out = output_size(conv, *image.shape[-2:])[1]
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    padding = conv._reversed_padding_repeated_twice
    padded = functional.pad(image, padding, mode=mode) if any(padding) else image
    tap = torch.arange(math.prod(conv.kernel_size))
    row, column = tap // conv.kernel_size[1], tap % conv.kernel_size[1]
    rows = (at // width_out)[:, None] * conv.stride[0] + row * conv.dilation[0]
    columns = (at % width_out)[:, None] * conv.stride[1] + column * conv.dilation[1]
    seen = padded[0][:, rows.to(image.device), columns.to(image.device)]  # (in, positions, k*k)
    return seen.permute(1, 0, 2)


class Moments:
    """First and second moments of a convolution's input patches and of the outputs wanted of its stand-in.

    Holds (in * k * k)^2 float64 numbers on the CPU, whatever the number of patches. If that is too wide
    (WIDEST_PATCH), the depthwise outputs of the rank-1 split take the place of the patches.
    """

    def __init__(self, conv: nn.Conv2d, separable: SeparableConv2d) -> None:
        self._conv = conv
        self._dense = conv.weight.detach().float().cpu().flatten(1)
        self._bias = None if conv.bias is None else conv.bias.detach().double().cpu()
        self.whole = self._dense.shape[1] <= WIDEST_PATCH
        self.depthwise = separable.depthwise.weight.detach().double().cpu().flatten(1)
        self.pointwise = separable.pointwise.weight.detach().double().cpu()[:, :, 0, 0]
        if self.whole:
            self.kernels = self.depthwise
            self._reference = conv.weight.detach().double().cpu().flatten(2)  # (out, in, taps)
        else:
            self.kernels = torch.ones(conv.in_channels, 1, dtype=torch.float64)
            self._reference = self.pointwise[..., None]
        size = self._reference[0].numel()
        self._gathered: list[tuple[Tensor, Tensor]] = []
        self._count = 0
        self._origin: Tensor | None = None
        self._x = torch.zeros(size, dtype=torch.float64)
        self._xx = torch.zeros(size, size, dtype=torch.float64)
        self._r = torch.zeros(conv.out_channels, dtype=torch.float64)
        self._rr = 0.0
        self._rx = torch.zeros(conv.out_channels, size, dtype=torch.float64)
        self._yy = 0.0

    @torch.no_grad()
    def add(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Take in one image (1, in, H, W) at the flat output positions `at`.

        targets: (positions, out) outputs wanted there; None for those of the dense convolution.
        """
        seen = patches(self._conv, image, at).float().cpu()
        bias = 0.0 if self._bias is None else self._bias.float()
        dense = seen.flatten(1) @ self._dense.T + bias
        wanted = dense if targets is None else targets.float().cpu()
        if not self.whole:
            seen = torch.einsum("ncj,cj->nc", seen, self.depthwise.float())
            dense = seen @ self.pointwise.float().T + bias
        self._yy += float(wanted.double().square().sum())
        self._gathered.append((seen.flatten(1), wanted - dense))
        if sum(len(x) for x, _ in self._gathered) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        """Add what was gathered to the sums: within in float32, which is twice as fast, between in float64."""
        if not self._gathered:
            return
        x, r = (torch.cat(parts) for parts in zip(*self._gathered, strict=True))
        self._gathered = []
        if self._origin is None:
            # Variances are about to be differences; far from the origin float32 would lose them.
            self._origin = x.mean(0) if self._bias is not None else torch.zeros(x.shape[1])
        x -= self._origin
        self._count += len(x)
        self._x += x.sum(0, dtype=torch.float64)
        self._xx += x.T @ x
        self._r += r.sum(0, dtype=torch.float64)
        self._rr += float(r.double().square().sum())
        self._rx += r.T @ x

    def wanted_power(self) -> float:
        """Mean square of the outputs wanted, summed over channels."""
        return self._yy / max(self._count, 1)

    def problem(self, ridge: float) -> LeastSquares:
        """The least-squares problem that everything taken in defines; nothing can be taken in afterwards.

        Raises ZooError if the activations are not finite.
        """
        self._flush()
        count = max(self._count, 1)
        mean, missed, power = self._x.div_(count), self._r.div_(count), self._rr / count
        second, cross = self._xx.div_(count), self._rx.div_(count)
        shift = None
        if self._bias is not None:  # a free bias takes up the means: what is left to fit is centred
            second.addr_(mean, mean, alpha=-1)
            cross.addr_(missed, mean, alpha=-1)
            power -= float(missed.square().sum())
            shift = self._bias + missed
        if not (math.isfinite(power) and bool(second.isfinite().all()) and bool(cross.isfinite().all())):
            raise ZooError("Activations of the calibration data are not finite.")
        mean = mean if self._origin is None else mean + self._origin
        return LeastSquares(self._reference, second, cross, power, mean, shift, ridge)


class LeastSquares:
    """Minimise E|r + D x|^2 + lambda |D|^2 over W^ = pointwise (out, in) * kernels (in, taps), D = W - W^.

    weight: W (out, in, taps). second: E[x x']. cross: E[r x']. power: E|r|^2. mean: E[x].
    shift:  bias of W plus E[r], or None for no bias; with a bias all moments are centred.
    """

    def __init__(
        self,
        weight: Tensor,
        second: Tensor,
        cross: Tensor,
        power: float,
        mean: Tensor,
        shift: Tensor | None,
        ridge: float,
    ) -> None:
        self._weight = weight.flatten(1)
        self._channels, self._taps = weight.shape[1:]
        self._cross, self._power, self._mean, self._shift = cross, power, mean, shift
        variance = float(second.diagonal().mean())
        # Dead inputs leave nothing to fit to but the dense weight itself; any positive lambda then does that.
        self._ridge = ridge * variance if variance > 0 else 1.0
        second.diagonal().add_(self._ridge)
        self._second = second
        goal = self._weight @ second + cross
        self._goal = goal.view(-1, self._channels, self._taps)
        self._without = power + float((self._weight * (goal + cross)).sum())  # the objective for W^ = 0
        span = range(0, len(second), self._taps)
        blocks = torch.stack([second[i : i + self._taps, i : i + self._taps] for i in span])
        self._blocks = torch.linalg.cholesky(blocks)

    def _missing(self, kernels: Tensor, pointwise: Tensor) -> Tensor:
        return self._weight - torch.einsum("oi,it->oit", pointwise, kernels).flatten(1)

    def error(self, kernels: Tensor, pointwise: Tensor) -> float:
        """Mean square output error on the data, summed over output channels, with the best bias."""
        missing = self._missing(kernels, pointwise)
        ridged = float((missing * (missing @ self._second + 2 * self._cross)).sum())
        return self._power + ridged - self._ridge * float(missing.square().sum())

    def bias(self, kernels: Tensor, pointwise: Tensor) -> Tensor | None:
        """The best bias (out,), or None."""
        return None if self._shift is None else self._shift + self._missing(kernels, pointwise) @ self._mean

    def solve_pointwise(self, kernels: Tensor) -> tuple[Tensor, float]:
        """The best pointwise weight (out, in) for given kernels, none of them zero, and the objective then."""
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
        """One sweep over the channels, each kernel set to the best one given all others; in place.

        Afterwards every kernel has norm one, which the next pointwise solution makes good.
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
