"""Which layers a technique may replace, and that it says why not the others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from support.rewriting import context, reasons
from zoo.surgery import Which, find_candidates, select_candidates


def plain(layer: nn.Module) -> str | None:
    return None if type(layer) in (nn.Conv2d, nn.Linear) else "not plain"


def net() -> nn.Module:
    layers = {
        name: nn.Conv2d(3, 3, 3, padding=1) for name in ("able", "tied", "twin", "hooked", "own", "infinite")
    }
    layers["twin"].weight = layers["tied"].weight
    layers["hooked"].register_forward_pre_hook(lambda module, args: None)
    layers["own"]._conv_forward = lambda x, weight, bias: nn.functional.conv2d(x, weight.abs(), bias)
    with torch.no_grad():
        layers["infinite"].weight[0] = torch.inf
    root = nn.Module()
    for name, layer in layers.items():
        root.add_module(name, layer)
    root.other, root.linear = nn.ConvTranspose2d(3, 3, 2), nn.Linear(3, 3)
    return root


def test_each_layer_that_is_left_out_is_reported_with_its_reason() -> None:
    ctx = context(torch.rand(1, 3, 8, 8))
    assert list(find_candidates(net(), ctx, "mine", plain)) == ["able"]
    assert {each.technique for each in ctx.skipped_layers} == {"mine"}
    assert reasons(ctx) == {
        "tied": "it shares its parameters with 'twin'",
        "twin": "it shares its parameters with 'tied'",
        "hooked": "it has hooks, which may compute its weight",
        "own": "a method that was set on it decides what it computes",
        "infinite": "its weights are not finite real numbers",
        "other": "not plain",
    }


def test_linear_layers_are_candidates_on_request() -> None:
    found = find_candidates(net(), context(torch.rand(1, 3, 8, 8)), "mine", plain, linear=True)
    assert list(found) == ["able", "linear"]


@pytest.mark.parametrize(
    ("which", "taken"), [("all", ["0", "1", "2"]), ("first", ["0", "2"]), ("second", ["1"])]
)
def test_layers_are_selected_by_their_place_in_the_block(which: Which, taken: list[str]) -> None:
    ctx = context(torch.rand(1, 3, 8, 8))
    able = {str(number): nn.Conv2d(3, 3, 1) for number in range(3)}
    selected = select_candidates(able, which, ctx, "mine")
    assert list(selected.values()) == taken
    assert sorted([*selected.values(), *reasons(ctx)]) == ["0", "1", "2"]
