"""Least squares over moments: what the data says is followed, what is rounding alone is not."""

from __future__ import annotations

import pytest
import torch

from zoo.surgery.reconstruction import ActivationStatistics, LeastSquares


def fitted(
    features: torch.Tensor, targets: torch.Tensor, *, bias: bool = True
) -> tuple[LeastSquares, torch.Tensor]:
    """The problem and its best weight; the trained layer has weights of about one."""
    torch.manual_seed(1)
    weight = torch.randn(1, targets.shape[1], features.shape[1])
    moments = ActivationStatistics(weight, torch.zeros(targets.shape[1]) if bias else None)
    moments.add(features[:, None], targets)
    problem = moments.problem(0.03)
    return problem, problem.solution()


@pytest.mark.parametrize("deviation", [1e-7, 1e-6, 1e-5])
def test_inputs_that_are_all_but_constant_are_not_followed(deviation: float) -> None:
    torch.manual_seed(0)
    features = 1 + torch.rand(24) + deviation * torch.randn(16, 24)
    problem, best = fitted(features, torch.randn(16, 3))
    rounding = 1e-7 * features * torch.randn(16, 24)
    assert float((rounding.double() @ (best - problem.weight)[0].T).std()) < 1e-2


@pytest.mark.parametrize("mean", [0.0, 1.0, 10.0])
def test_inputs_that_vary_are_fitted_whatever_their_mean(mean: float) -> None:
    torch.manual_seed(0)
    features, wanted = mean + torch.randn(500, 6), torch.randn(3, 6)
    _, best = fitted(features, features @ wanted.T)
    torch.testing.assert_close(best[0].float(), wanted, atol=0.15, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
def test_dead_inputs_leave_the_weights_as_they_were(bias: bool) -> None:
    problem, best = fitted(torch.zeros(16, 6), torch.randn(16, 3), bias=bias)
    torch.testing.assert_close(best, problem.weight)
