"""Factors of a weight: the best ones by Eckart and Young, in the metric of the inputs."""

from __future__ import annotations

import pytest
import torch

from zoo.surgery.reconstruction import (
    balance_factors,
    cholesky_factor,
    fold_factors,
    leading_rows,
    solve_symmetric,
    split_metric,
    standard_deviation,
    unfold_weight,
)


def metric(size: int) -> torch.Tensor:
    """A second moment, (1, size, size)."""
    torch.manual_seed(0)
    inputs = torch.randn(1, 4 * size, size, dtype=torch.float64) * torch.linspace(0.2, 2, size)
    return inputs.mT @ inputs / (4 * size)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_leading_rows_are_those_of_the_singular_value_decomposition(
    weighted: bool, shape: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(1, *shape, dtype=torch.float64)
    second = metric(shape[1]) if weighted else None
    rows, energy = leading_rows(matrix, second)
    root = torch.eye(shape[1], dtype=torch.float64)[None] if second is None else cholesky_factor(second)
    values = torch.linalg.svdvals(matrix @ root)
    torch.testing.assert_close(energy[:, : min(shape)], values.square())
    for rank in range(1, min(shape)):
        whitened = rows[:, :rank] @ root
        projection = torch.linalg.pinv(whitened) @ whitened
        missed = (matrix @ root - matrix @ root @ projection).square().sum()
        torch.testing.assert_close(missed, values[0, rank:].square().sum())


def test_a_product_metric_is_split_into_its_factors() -> None:
    inner, outer = metric(3), metric(4)
    outer = outer / outer.diagonal(dim1=1, dim2=2).mean()
    product = torch.einsum("gab,gcd->gacbd", inner, outer).reshape(1, 12, 12)
    found = split_metric(product, 4)
    torch.testing.assert_close(found, (inner, outer))
    assert split_metric(None, 4) == (None, None)


def test_unfolding_and_folding_are_inverse() -> None:
    weight = torch.randn(2, 3, 4 * 5)
    matrix = unfold_weight(weight, 5, None)
    assert matrix.shape == (2, 15, 4)
    first = torch.eye(4).expand(2, -1, -1)
    second = matrix.view(2, 3, 5, 4).transpose(2, 3).flatten(2)
    torch.testing.assert_close(fold_factors(second, first), weight)


def test_balanced_factors_have_the_same_product_and_equal_norms() -> None:
    first, second = torch.randn(1, 3, 8), 100 * torch.randn(1, 5, 3)
    one, other = balance_factors((first, second))
    torch.testing.assert_close(other @ one, second @ first)
    torch.testing.assert_close(one.norm(dim=2), other.norm(dim=1))


def test_the_deviation_of_constant_rows_is_one() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    torch.testing.assert_close(standard_deviation(rows, None), torch.tensor([1.0, 1.0, 5.0]))


def test_dependent_rows_do_not_spoil_a_solution() -> None:
    half = torch.randn(1, 2, 4, dtype=torch.float64)
    matrix = half.mT @ half  # of rank 2
    right = matrix @ torch.randn(1, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(matrix @ solve_symmetric(matrix, right), right)
