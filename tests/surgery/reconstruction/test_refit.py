"""Refitting: a changed network's layers compute again what the original's did, as far as they can."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from support.rewriting import context, mean_error, smooth
from zoo.surgery import keep_inputs, keep_outputs, trace
from zoo.surgery.reconstruction import (
    RefitTarget,
    is_refittable,
    record_outputs,
    refit_layers,
    targets_after,
    targets_downstream,
)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)]
    return nn.Sequential(*layers).eval()


def test_a_network_without_half_its_channels_is_closer_after_refitting() -> None:
    original, changed = net(), net()
    data, index = smooth(8), torch.arange(4)
    ctx = context(data)
    targets = targets_downstream(trace(original, data[:1]), [original[0]])
    recorded = record_outputs(original, targets, [data], ctx)
    first, second, last = changed[0], changed[2], changed[3]
    keep_outputs(first, index)
    keep_inputs(second, index)
    unfitted = mean_error(copy.deepcopy(changed), original, data)
    wanted = {
        first: RefitTarget("0", original[0], index),
        second: RefitTarget("2", original[2]),
        last: RefitTarget("3", original[3]),
    }
    error = refit_layers(changed, wanted, recorded, [data], ctx, "mine")
    assert error is not None
    assert mean_error(changed, original, data) < 0.8 * unfitted
    assert abs(error - mean_error(changed, original, data)) < 0.02, "the error is that of the last layer"


def test_a_view_changes_what_is_fitted_to() -> None:
    model = net()
    data = smooth(8)
    ctx = context(data)
    last = cast(nn.Conv2d, model[3])
    recorded = record_outputs(model, [last], [data], ctx, lambda layer, output: 2 * output)
    with torch.no_grad():
        before = model(data)
    refit_layers(model, {last: RefitTarget("3", last)}, recorded, [data], ctx, "mine")
    with torch.no_grad():
        assert float((model(data) - 2 * before).norm() / before.norm()) < 0.1


def test_without_data_nothing_is_refitted() -> None:
    model = net()
    ctx = context(smooth(1))
    recorded = record_outputs(model, [model[0]], [], ctx)
    assert refit_layers(model, {model[0]: RefitTarget("0", model[0])}, recorded, [], ctx, "mine") is None


def test_targets_are_the_layers_that_see_the_change() -> None:
    model = net()
    example = smooth(1)
    downstream = targets_downstream(trace(model, example), [model[2]])
    assert [target.name for target in downstream.values()] == ["2", "3"]
    assert [target.name for target in targets_after(model, model[2], example).values()] == ["3"]


def test_what_cannot_be_refitted_is_not_a_target() -> None:
    assert is_refittable(nn.Conv2d(3, 3, 3))
    assert is_refittable(nn.ConvTranspose2d(3, 3, 2))
    assert not is_refittable(nn.Linear(3, 3))
    assert not is_refittable(nn.Conv1d(3, 3, 3))


def test_a_linear_layer_is_refitted_to_what_the_network_computed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
    )
    model.eval()
    where = context(smooth(1))
    batches = list(smooth(32).split(8))
    layers = targets_downstream(trace(model, where.example_input), [model[0]])
    assert [target.name for target in layers.values()] == ["0", "4"]
    del layers[model[0]]
    targets = record_outputs(model, layers, batches, where)
    wanted = [model(batch) for batch in batches]
    with torch.no_grad():
        model[0].weight[:4] = 0  # as if these channels had gone
        model[0].bias[:4] = 0
        before = sum((model(b) - w).square().mean() for b, w in zip(batches, wanted, strict=True))
        error = refit_layers(model, layers, targets, batches, where, "test")
        after = sum((model(b) - w).square().mean() for b, w in zip(batches, wanted, strict=True))
    assert error is not None
    assert after < before / 10
