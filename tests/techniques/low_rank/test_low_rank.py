"""`low-rank`: what it costs, when it is exact, and that data makes it better."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from support.rewriting import context, mean_error, odd_net, reasons, rewritten, smooth
from zoo.cost import model_cost
from zoo.errors import NoEffectError, UsageError
from zoo.options import parse_options
from zoo.surgery.reconstruction import (
    ActivationStatistics,
    LeastSquares,
    dense_weight,
    extract_patches,
    groups_of,
    output_size,
    statistics,
)
from zoo.testing.trial import rewrite
from zoo_techniques.low_rank import LowRank
from zoo_techniques.low_rank.fit import Factors, build_factors, fit_layer
from zoo_techniques.low_rank.forms import KINDS, Form, cost_of, form_within, full_rank
from zoo_techniques.low_rank.technique import LowRankConfig

LAYERS = {
    "conv": nn.Conv2d(8, 12, 3, padding=1),
    "strided, no bias": nn.Conv2d(8, 12, 3, padding=1, stride=2, bias=False),
    "grouped, uneven kernel": nn.Conv2d(8, 12, (3, 5), padding="same", groups=2),
    "dilated, reflecting": nn.Conv2d(8, 12, 3, padding=2, dilation=2, padding_mode="reflect"),
    "transposed": nn.ConvTranspose2d(8, 12, 2, stride=2),
    "transposed, overlapping, grouped": nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1, groups=2),
    "transposed, output padding": nn.ConvTranspose2d(8, 12, 3, stride=2, padding=1, output_padding=1),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def problem_of(layer: nn.Module, inputs: torch.Tensor | None = None) -> LeastSquares:
    """The least squares of a layer's own outputs on `inputs`, at all positions; of its weights alone if None."""
    gathered = ActivationStatistics(dense_weight(layer).flatten(2), layer.bias)
    for image in [] if inputs is None else inputs:
        at = torch.arange(torch.Size(output_size(layer, *image.shape[1:])).numel())
        gathered.add(extract_patches(layer, image[None], at).reshape(len(at), groups_of(layer), -1))
    return gathered.problem(1e-3)


def factorized(layer: nn.Module, form: Form, inputs: torch.Tensor | None = None) -> nn.Module:
    """A form of a layer, whether it saves or not."""
    problem = problem_of(layer, inputs)
    fitted = fit_layer(problem, layer, form)
    return build_factors(layer, form, fitted.weights, problem.bias(fitted.merged))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LAYERS)
def test_full_rank_is_the_layer_itself(name: str, kind: str) -> None:
    layer, inputs = LAYERS[name], torch.randn(2, 8, 9, 11)
    groups = layer.groups
    ranks = (8 // groups, 12 // groups) if kind == "tucker" else (full_rank(layer, kind),)
    for data in (None, inputs):
        factors = factorized(layer, Form(kind, ranks), data)
        torch.testing.assert_close(factors(inputs), layer(inputs), rtol=1e-4, atol=1e-5)


def count(module: nn.Module, inputs: torch.Tensor) -> tuple[int, int]:
    cost = model_cost(module, inputs)
    biases = sum(p.numel() for name, p in module.named_parameters() if name.endswith("bias"))
    return cost.parameters - biases, cost.macs


# 8 -> 12 channels, 3 x 3, on a 10 x 6 image; forms at rank 4 (4 and 6), counted by hand
@pytest.mark.parametrize(
    ("layer", "form", "weights", "macs"),
    [
        (nn.Conv2d(8, 12, 3, padding=1), Form("output", (4,)), 288 + 48, 60 * 336),
        (nn.Conv2d(8, 12, 3, padding=1), Form("spatial", (4,)), 96 + 144, 60 * 240),
        (nn.Conv2d(8, 12, 3, padding=1), Form("input", (4,)), 32 + 432, 60 * 464),
        (nn.Conv2d(8, 12, 3, padding=1), Form("tucker", (4, 6)), 32 + 216 + 72, 60 * 320),
        (nn.Conv2d(8, 12, 3, padding=1, stride=2), Form("spatial", (4,)), 240, 30 * 96 + 15 * 144),
        (nn.Conv2d(8, 12, 3, padding=1, stride=2), Form("input", (4,)), 464, 60 * 32 + 15 * 432),
        (nn.Conv2d(8, 12, 3, padding=1, groups=2), Form("output", (2,)), 144 + 24, 60 * 168),
        (nn.Conv2d(8, 12, 3, padding=1, groups=2), Form("input", (2,)), 16 + 216, 60 * 232),
        (nn.ConvTranspose2d(8, 12, 2, stride=2), Form("input", (4,)), 32 + 192, 60 * 224),
        (nn.ConvTranspose2d(8, 12, 2, stride=2), Form("output", (4,)), 128 + 48, 60 * 128 + 240 * 48),
        (nn.ConvTranspose2d(8, 12, 2, stride=2), Form("spatial", (4,)), 64 + 96, 60 * 64 + 120 * 96),
        (nn.Linear(8, 12), Form("output", (4,)), 80, 80),
    ],
)
def test_forms_cost_what_a_hand_count_says(layer: nn.Module, form: Form, weights: int, macs: int) -> None:
    inputs = torch.rand(1, 8) if isinstance(layer, nn.Linear) else torch.rand(1, 8, 10, 6)
    assert count(factorized(layer, form), inputs) == (weights, macs)
    dense = count(layer, inputs)
    predicted = [new / old for new, old in zip(cost_of(layer, form), cost_of(layer), strict=True)]
    assert predicted == pytest.approx([weights / dense[0], macs / dense[1]])


def test_truncation_is_optimal_among_all_of_its_rank() -> None:
    """Reduced-rank regression: nothing near it does better on the data."""
    layer, inputs = nn.Conv2d(6, 8, 3), smooth(4, 6)
    problem = problem_of(layer, inputs)
    best = fit_layer(problem, layer, Form("output", (3,)))
    for _ in range(30):
        first, second = (weight + 0.02 * torch.randn_like(weight) for weight in best.weights)
        assert problem.error(second @ first) > best.error


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_to_inputs_beats_the_weights_alone_on_inputs_not_seen(kind: str) -> None:
    layer, seen, unseen = nn.Conv2d(12, 16, 3, padding=1), smooth(8, 12), smooth(4, 12)
    layer.weight.data *= torch.rand(12)[:, None, None] + 0.1
    form = form_within(layer, kind, 0.4)
    assert form is not None
    plain, fitted = factorized(layer, form), factorized(layer, form, seen)
    assert mean_error(fitted, layer, unseen) < 0.8 * mean_error(plain, layer, unseen)


def test_ratio_is_kept_by_weights_and_multiplications_of_every_layer() -> None:
    net, data = odd_net(), smooth(8)
    before = {layer.name: layer for layer in model_cost(net, data[:1]).layers}
    new = rewritten(LowRank(LowRankConfig(ratio=0.6, min_parameters=1)), net, data)
    after = model_cost(new, data[:1])
    factored = [name for name, module in new.named_modules() if isinstance(module, Factors)]
    assert {"features.3", "features.5", "features.7", "features.9", "features.12"} <= set(factored)
    for name in factored:
        parts = [layer for layer in after.layers if layer.name.startswith(f"{name}.")]
        assert sum(part.macs for part in parts) <= 0.6 * before[name].macs
    assert new(data).shape == net(data).shape


def test_data_of_the_rewritten_net_makes_the_whole_net_better() -> None:
    net, data = odd_net(), smooth(16)
    technique = LowRank(LowRankConfig(ratio=0.5, min_parameters=256))
    fitted = rewritten(technique, net, data[:12])
    plain = rewritten(technique, net, data[:12], fitted=False)
    assert mean_error(fitted, net, data[12:]) < 0.7 * mean_error(plain, net, data[12:])


def test_energy_of_one_keeps_what_the_layer_computes() -> None:
    """A layer of rank four is found to be one."""
    layer = nn.Conv2d(8, 32, 3, padding=1)
    layer.weight.data = torch.einsum("or,rcij->ocij", torch.randn(32, 4), torch.randn(4, 8, 3, 3))
    net, data = nn.Sequential(layer), smooth(6, 8)
    config = LowRankConfig(kind="output", energy=0.999999, min_parameters=1)
    for fitted in (True, False):
        new = rewritten(LowRank(config), net, data, fitted=fitted)
        assert new[0].first.out_channels == 4
        torch.testing.assert_close(new(data), net(data), rtol=1e-3, atol=1e-3)


def test_too_wide_a_layer_is_seen_through_its_first_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, seen, unseen = nn.Conv2d(12, 16, 3, padding=1), smooth(8, 12), smooth(4, 12)
    whole = rewritten(LowRank(LowRankConfig(min_parameters=1)), nn.Sequential(layer), seen)
    monkeypatch.setattr(statistics, "MAX_FEATURES", 12 * 9 - 1)
    narrow = rewritten(LowRank(LowRankConfig(min_parameters=1)), nn.Sequential(layer), seen)
    plain = rewritten(LowRank(LowRankConfig(min_parameters=1)), nn.Sequential(layer), seen, fitted=False)
    errors = [mean_error(net, layer, unseen) for net in (whole, narrow, plain)]
    assert errors == sorted(errors)


def test_layers_that_cannot_be_replaced_are_named_with_the_reason() -> None:
    class Own(nn.Conv2d):
        pass

    net = nn.Sequential(
        Own(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 2, 1), nn.Conv2d(2, 64, 1), nn.Conv1d(64, 64, 3)
    )
    ctx = context(smooth(1))
    net.forward = lambda x: nn.Sequential.forward(net[:4], x)  # type: ignore[method-assign]
    LowRank(LowRankConfig(min_parameters=33)).rewrite(net, ctx)
    found = reasons(ctx)
    assert found.keys() == {"0", "2", "3", "4"}
    assert "Own is not a plain" in found["0"]
    assert found["2"] == "32 weights, min_parameters=33"
    assert found["3"] == "no output form has 0.5 of its cost"
    assert "Conv1d is not a plain" in found["4"]


def test_linear_layers_can_be_left_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 64))
    for linear in (True, False):
        new = rewritten(LowRank(LowRankConfig(linear=linear, min_parameters=1)), net, smooth(4))
        assert isinstance(new[3], Factors) is linear
        assert isinstance(new[0], Factors)


def test_energy_and_rank_together_are_refused() -> None:
    with pytest.raises(UsageError, match="energy and rank"):
        parse_options("low-rank", LowRankConfig, {"energy": "0.9", "rank": "4"})


def test_nothing_to_factorize_fails_by_name() -> None:
    with pytest.raises(NoEffectError, match="low-rank changed nothing"):
        rewrite(LowRank(LowRankConfig(min_parameters=1_000_000)))
