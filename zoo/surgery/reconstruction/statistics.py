"""Second moments of a layer's input and wanted outputs, and the least-squares problem that they define.

A layer computes y = W x + b from a patch x, group by group. Its replacement computes W^ x + b^ with a W^ of fewer
numbers. The mean square of y - W^ x - b^ over positions, y being the outputs wanted, is with D = W - W^,
r = y - W x and S = E[x x']

    E[r r'] + 2 tr(E[r x'] D') + tr(D S D'),

a function of moments alone: activations stream through once, and memory does not grow with their number. A ridge
term lambda * |W - W^|^2 stands for the data not seen: it is white input of variance lambda. Without any data it is
all there is, and the same formulas give the W^ nearest to W in the Frobenius norm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.errors import ZooError

#: Beyond this many numbers in a patch (in * k * k) the second moments of patches (here 328 MB) are not held.
MAX_FEATURES = 6400
#: Least lambda over the mean square of a feature. Inputs that vary by some millionths of themselves are constants with
#: rounding errors: without a floor, huge weights would make the outputs wanted out of them.
_FLOOR = 1e-9
#: Patches gathered before their products are taken: large products run at full speed.
_ROWS = 2048


def fits_in_memory(groups: int, features: int) -> bool:
    """Return whether second moments of `features` numbers in each of `groups` groups may be held in memory."""
    return groups * features * features <= MAX_FEATURES * MAX_FEATURES


class ActivationStatistics:
    """First and second moments of features of a layer's input, and of the outputs wanted from its replacement.

    Memory: groups * features^2 float64 numbers on the CPU, whatever the number of positions.

    Args:
        weight: W, (groups, out, features): what the layer multiplies the features by.
        bias: b, (groups * out,); None if the replacement has no bias.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight.detach().double().cpu()
        self._bias = None if bias is None else bias.detach().double().cpu()
        groups, outputs, features = weight.shape
        self._gathered: list[tuple[Tensor, Tensor]] = []
        self._count = 0
        self._origin: Tensor | None = None
        self._x = torch.zeros(groups, features, dtype=torch.float64)
        # Allocated by the first data: without any, they would be the weight again, the identity and zeros.
        self._single: Tensor | None = None
        self._xx: Tensor | None = None
        self._rx: Tensor | None = None
        self._r = torch.zeros(groups, outputs, dtype=torch.float64)
        self._rr = 0.0
        self._yy = 0.0

    @torch.no_grad()
    def add(self, features: Tensor, targets: Tensor | None = None) -> None:
        """Add features and the outputs wanted for them.

        Args:
            features: (positions, groups, features).
            targets: (positions, groups * out) outputs wanted; None for those of W and b.
        """
        if self._single is None:
            self._single = self._weight.float()
        seen = features.float().cpu().transpose(0, 1)  # (groups, positions, features)
        dense = seen @ self._single.transpose(1, 2)
        if self._bias is not None:
            dense = dense + self._bias.float().view(len(dense), 1, -1)
        wanted = dense
        if targets is not None:
            wanted = targets.float().cpu().view(len(targets), len(dense), -1).transpose(0, 1)
        self._yy += float(wanted.double().square().sum())
        self._gathered.append((seen, wanted - dense))
        if sum(x.shape[1] for x, _ in self._gathered) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        """Add what was gathered to the sums: within in float32, which is twice as fast, between in float64."""
        if not self._gathered:
            return
        x, r = (torch.cat(parts, dim=1) for parts in zip(*self._gathered, strict=True))
        self._gathered = []
        if self._origin is None:
            # Variances are about to be differences; far from the origin float32 would lose them.
            self._origin = x.mean(1, keepdim=True)
            if self._bias is None:
                self._origin.zero_()
        x -= self._origin
        self._count += x.shape[1]
        self._x += x.sum(1, dtype=torch.float64)
        product = x.transpose(1, 2) @ x
        self._xx = product.double() if self._xx is None else self._xx.add_(product)
        self._r += r.sum(1, dtype=torch.float64)
        self._rr += float(r.double().square().sum())
        across = r.transpose(1, 2) @ x
        self._rx = across.double() if self._rx is None else self._rx.add_(across)

    @property
    def count(self) -> int:
        """Return the number of positions added so far."""
        return self._count + sum(x.shape[1] for x, _ in self._gathered)

    def target_power(self) -> float:
        """Return the mean square of the wanted outputs, summed over channels.

        Without data: that of the outputs of W for white input.
        """
        return self._yy / self.count if self.count else float(self._weight.norm()) ** 2

    def problem(self, ridge: float) -> LeastSquares:
        """Return the least-squares problem that the data defines; nothing can be added afterwards.

        Args:
            ridge: lambda, relative to the mean variance of a feature; tiny values are raised to a floor.

        Raises:
            ZooError: The activations are not finite.
        """
        self._flush()
        count = max(self._count, 1)
        mean, missed, power = self._x.div_(count), self._r.div_(count), self._rr / count
        second = None if self._xx is None else self._xx.div_(count)
        cross = None if self._rx is None else self._rx.div_(count)
        shift = None
        if self._bias is not None:  # a free bias takes up the means: what is left to fit is centred
            if second is not None and cross is not None:
                second.baddbmm_(mean[:, :, None], mean[:, None], alpha=-1)
                cross.baddbmm_(missed[:, :, None], mean[:, None], alpha=-1)
            power -= float(missed.square().sum())
            shift = self._bias.view_as(missed) + missed
        if not math.isfinite(power) or not all(
            bool(moment.isfinite().all()) for moment in (second, cross) if moment is not None
        ):
            raise ZooError("Activations of the calibration data are not finite.")
        mean = mean if self._origin is None else mean + self._origin[:, 0]
        return LeastSquares(self._weight, second, cross, power, mean, shift, ridge)


class NormalEquations:
    """The normal equations of a linear least-squares problem: minimise tr(B S B') - 2 tr(goal B') over B.

    Args:
        goal: (groups, out, features).
        second: S, (groups, features, features); None for the identity.
    """

    def __init__(self, goal: Tensor, second: Tensor | None) -> None:
        self.goal, self.second = goal, second
        self._solution: Tensor | None = None

    def times_second(self, rows: Tensor) -> Tensor:
        """Return rows @ S for rows (groups, any, features)."""
        return rows if self.second is None else rows @ self.second

    def solution(self) -> Tensor:
        """Return the unconstrained solution B, (groups, out, features)."""
        if self._solution is None:
            goal = self.goal
            self._solution = goal if self.second is None else solve_symmetric(self.second, goal.mT).mT
        return self._solution

    def coefficients(self, rows: Tensor) -> Tensor:
        """Return the best P, (groups, out, r), for a solution of the form P @ rows with rows (groups, r, features)."""
        gram = self.times_second(rows) @ rows.transpose(1, 2)
        return solve_symmetric(gram, rows @ self.goal.transpose(1, 2)).transpose(1, 2)


class LeastSquares(NormalEquations):
    """Minimise E|r + D x|^2 + lambda |D|^2 over W^, where D = W - W^; see the module's docstring.

    :meth:`ActivationStatistics.problem` makes it. `goal` is E[y x'] + lambda * W, so that the best unconstrained W^ is
    goal (S + lambda)^-1.

    Args:
        weight: W, (groups, out, features).
        second: S = E[x x'], (groups, features, features), changed in place; None for the identity, without data.
        cross: E[r x'], (groups, out, features); None for zeros, without data.
        power: E|r|^2.
        mean: E[x], (groups, features).
        shift: Bias of W plus E[r], (groups, out); None without a bias. With one, all moments are centred.
        ridge: lambda, relative to the mean variance of a feature.
    """

    def __init__(
        self,
        weight: Tensor,
        second: Tensor | None,
        cross: Tensor | None,
        power: float,
        mean: Tensor,
        shift: Tensor | None,
        ridge: float,
    ) -> None:
        self.weight, self.cross, self.mean, self.shift = weight, cross, mean, shift
        self.power = power
        variance = 0.0 if second is None else float(torch.diagonal(second, dim1=1, dim2=2).mean())
        # Dead inputs leave nothing to fit to but the dense weight itself; any positive lambda then does that.
        square = variance if shift is None else variance + float(mean.square().mean())
        self.ridge = max(ridge * variance, _FLOOR * square) or 1.0
        if second is not None:
            torch.diagonal(second, dim1=1, dim2=2).add_(self.ridge)
        goal = weight if second is None else weight @ second
        super().__init__(goal if cross is None else goal + cross, second)

    def project(self, rows: Tensor, left: int = 1) -> NormalEquations:
        """Return the problem for B in W^[o, a, b] = sum over r of B[o, r, b] rows[r, a]; its ridge is that on W^.

        Args:
            rows: (groups, r, a).
            left: The number of indices b; features are counted (a, b).

        Returns:
            The normal equations for B, (groups, out, r * left).
        """
        groups, rank, a = rows.shape
        goal = torch.einsum("goab,gra->gorb", self.goal.view(groups, -1, a, left), rows).flatten(2)
        if self.second is None:
            gram = torch.einsum("gra,gsa,bc->grbsc", rows, rows, torch.eye(left, dtype=rows.dtype))
        else:
            # One contraction after the other: the first is the larger, but needs no Kronecker product.
            half = rows @ self.second.view(groups, a, -1)  # (groups, r, b * a' * b')
            half = half.view(groups, rank * left, a, left).transpose(2, 3)
            gram = (half @ rows.transpose(1, 2)[:, None]).view(groups, rank, left, left, rank).transpose(3, 4)
        return NormalEquations(goal, gram.reshape(groups, rank * left, rank * left))

    def error(self, weight: Tensor) -> float:
        """Return the mean square output error of W^ on the data with the best bias, summed over output channels.

        Without data: the squared distance of the weights.

        Args:
            weight: W^, (groups, out, features).
        """
        missing: Tensor = self.weight - weight
        if self.cross is None:
            return float(missing.norm()) ** 2
        ridged = float((missing * (self.times_second(missing) + 2 * self.cross)).sum())
        return self.power + ridged - self.ridge * float(missing.square().sum())

    def bias(self, weight: Tensor) -> Tensor | None:
        """Return the best bias, (groups * out,), for a W^ (groups, out, features); None if there is to be none."""
        if self.shift is None:
            return None
        missing: Tensor = self.weight - weight
        return (self.shift + (missing @ self.mean[..., None])[..., 0]).flatten()


def solve_symmetric(matrix: Tensor, right: Tensor) -> Tensor:
    """Return matrix^-1 @ right for a positive semi-definite matrix; by the pseudo-inverse if it is singular.

    Args:
        matrix: (..., n, n).
        right: (..., n, m).
    """
    matrix = (matrix + matrix.transpose(-1, -2)) / 2
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed.any()):
        return torch.matmul(torch.linalg.pinv(matrix, rtol=1e-10, hermitian=True), right)
    return torch.cholesky_solve(right, factor)


def cholesky_factor(metric: Tensor) -> Tensor:
    """Return a lower triangular L, (groups, n, n), with L L' = metric up to rounding, for a semi-definite metric."""
    factor, failed = torch.linalg.cholesky_ex(metric)
    if bool(failed.any()):
        level = torch.diagonal(metric, dim1=1, dim2=2).mean(1).clamp_min(1e-300)
        trace = level[:, None, None] * torch.eye(metric.shape[1], dtype=metric.dtype)
        factor = torch.linalg.cholesky(metric + 1e-9 * trace)
    return torch.as_tensor(factor)


def relative_error(missed: float, wanted: float) -> float:
    """Return the root of missed over wanted power; 0 if nothing is wanted."""
    return math.sqrt(max(missed, 0.0) / wanted) if wanted > 0 else 0.0
