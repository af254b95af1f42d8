"""Truncating a weight read as a matrix, in the metric of the inputs that it will see.

Weights are (groups, out, a * b): the indices `a` go into the first of two factors, the `left` indices `b` stay for
the second, W^[o, a, b] = sum over r of B[o, r, b] A[r, a]. A metric is a second moment of inputs; None stands for
the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.surgery.reconstruction.statistics import cholesky_factor


def leading_rows(matrix: Tensor, metric: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows whose first r span the best r-dimensional inputs for a matrix, for every r.

    With B free, |(matrix - B A) metric^1/2|^2 is least for the first r rows A.

    Args:
        matrix: (groups, m, a).
        metric: (groups, a, a), or None.

    Returns:
        Rows (groups, min(m, a), a), best first, and the energy that each adds, (groups, min(m, a)).
    """
    weighted = matrix if metric is None else matrix @ metric
    if matrix.shape[1] <= matrix.shape[2]:
        energy, left = torch.linalg.eigh(weighted @ matrix.transpose(1, 2))
        rows = left.flip(2).transpose(1, 2) @ matrix
    else:
        gram = matrix.transpose(1, 2) @ matrix
        if metric is None:
            energy, right = torch.linalg.eigh(gram)
            rows = right.flip(2).transpose(1, 2)
        else:
            factor = cholesky_factor(metric)
            energy, right = torch.linalg.eigh(factor.transpose(1, 2) @ gram @ factor)
            rows = torch.linalg.solve_triangular(
                factor, right.flip(2).transpose(1, 2), upper=False, left=False
            )
    return rows, energy.flip(1).clamp_min(0)


def split_metric(second: Tensor | None, left: int) -> tuple[Tensor | None, Tensor | None]:
    """Split S into a Kronecker product S_a (x) S_b by averaging its blocks along each side.

    Args:
        second: S, (groups, a * b, a * b), or None.
        left: The number of indices b.

    Returns:
        S_a (groups, a, a) and S_b (groups, b, b), whose diagonal has the mean one; None for each that is the identity.
    """
    if second is None or left == 1:
        return second, None
    a = second.shape[1] // left
    blocks = second.view(-1, a, left, a, left)
    outer = torch.diagonal(blocks, dim1=1, dim2=3).mean(-1)
    outer = outer / torch.diagonal(outer, dim1=1, dim2=2).mean(-1)[:, None, None]
    return torch.diagonal(blocks, dim1=2, dim2=4).mean(-1), outer


def unfold_weight(weight: Tensor, left: int, metric: Tensor | None) -> Tensor:
    """Return a weight (groups, out, a * b) as (groups, out * b, a).

    Args:
        weight: (groups, out, a * b).
        left: The number of indices b.
        metric: (groups, b, b), by whose root the indices b are weighted; None for no weighting.
    """
    groups, outputs = weight.shape[:2]
    slices = weight.view(groups, outputs, -1, left)
    if metric is not None:
        slices = slices @ cholesky_factor(metric)[:, None]
    return slices.transpose(2, 3).reshape(groups, outputs * left, -1)


def fold_factors(second: Tensor, first: Tensor) -> Tensor:
    """Return W^ (groups, out, a * b) for the factors B (groups, out, r * b) and A (groups, r, a)."""
    rank = first.shape[1]
    slices = second.view(*second.shape[:2], rank, -1)
    return torch.einsum("gorb,gra->goab", slices, first).flatten(2)


def balance_factors(weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Rescale the weights of consecutive layers so that those into and out of each inner channel have equal norms.

    Args:
        weights: First to last, (groups, out, in * taps) each.

    Returns:
        Weights of the same shapes and the same product.
    """
    balanced_weights = list(weights)
    for index in range(len(weights) - 1):
        first, second = balanced_weights[index : index + 2]
        rank = first.shape[1]
        slices = second.reshape(*second.shape[:2], rank, -1)
        into, out = first.norm(dim=2), slices.square().sum((1, 3)).sqrt()
        scale = torch.where((into > 0) & (out > 0), (out / into).sqrt(), 1.0)
        balanced_weights[index] = first * scale[..., None]
        balanced_weights[index + 1] = (slices / scale[:, None, :, None]).flatten(2)
    return tuple(balanced_weights)


def standard_deviation(rows: Tensor, second: Tensor | None) -> Tensor:
    """Return the standard deviations of rows @ x, (any,); one where it is zero.

    Args:
        rows: (any, n).
        second: The covariance of x, (n, n); None for the identity.
    """
    seen = rows if second is None else rows @ second
    spread = (seen * rows).sum(1).clamp_min(0).sqrt()
    return torch.where(spread > 0, spread, 1.0)
