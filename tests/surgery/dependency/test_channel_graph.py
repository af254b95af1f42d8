"""Channels that depend on each other are one group; removing groups leaves a network that runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from zoo.surgery import trace
from zoo.surgery.dependency import ChannelDependencies, ChannelMap, UnionFind, remove_groups

EXAMPLE = torch.rand(1, 3, 8, 8)


class Net(nn.Module):
    """A convolution, an operator on its channels, and a convolution that reads the result."""

    def __init__(self, operator: Callable[[Tensor], Tensor], channels: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.operator = operator
        self.last = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.operator(self.norm(self.first(x))))
        return y


def dependencies_of(model: nn.Module) -> ChannelDependencies:
    return ChannelDependencies(trace(model.eval(), EXAMPLE))


def groups_of(dependencies: ChannelDependencies, layer: nn.Module) -> list[int]:
    return [dependencies.group_of(label) for label in dependencies.slices[layer, "out"].labels]


OPERATORS: dict[str, tuple[Callable[[Tensor], Tensor], int, int]] = {
    # the operator, the channels of its result, and the groups that the first layer's 8 outputs make
    "relu": (torch.relu, 8, 8),
    "repeated": (lambda x: torch.cat([x, x], dim=1), 16, 8),
    "shuffled": (lambda x: nn.functional.pixel_shuffle(x, 2), 2, 2),
    "gated": (lambda x: x.chunk(2, dim=1)[0] * x.chunk(2, dim=1)[1], 4, 4),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_what_an_operator_ties_together_is_one_group(name: str) -> None:
    operator, channels, groups = OPERATORS[name]
    model = Net(operator, channels)
    dependencies = dependencies_of(model)
    found = groups_of(dependencies, model.first)
    assert len(set(found)) == groups
    assert not any(dependencies.is_frozen(group) for group in found)


def test_a_choice_ties_channels_together_where_it_is_the_same_for_all_of_them() -> None:
    class Chosen(nn.Module):
        def __init__(self, deciding: int) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
            self.decides = nn.Conv2d(3, deciding, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(torch.where(self.decides(x) > 0, self.first(x), self.second(x)))
            return y

    for deciding, tied in ((1, True), (8, False)):
        model = Chosen(deciding)
        dependencies = dependencies_of(model)
        first, second = groups_of(dependencies, model.first), groups_of(dependencies, model.second)
        assert (first == second) is tied
        assert all(dependencies.is_frozen(group) is not tied for group in (*first, *second))


@pytest.mark.parametrize("name", OPERATORS)
def test_without_a_group_the_network_runs_and_every_layer_has_shrunk(name: str) -> None:
    operator, channels, groups = OPERATORS[name]
    model = Net(operator, channels).eval()
    dependencies = dependencies_of(model)
    group = groups_of(dependencies, model.first)[0]
    kept = remove_groups(model, dependencies, {group})
    assert model.first.out_channels == model.norm.num_features == 8 - 8 // groups
    assert len(kept[model.first]) == model.first.out_channels
    assert model(EXAMPLE).shape[:2] == (1, 2)


def test_removing_channels_of_zero_weight_changes_nothing() -> None:
    model = Net(torch.relu, 8).eval()
    with torch.no_grad():
        model.last.weight[:, [2, 5]] = 0
        wanted = model(EXAMPLE)
        dependencies = dependencies_of(model)
        found = groups_of(dependencies, model.first)
        remove_groups(model, dependencies, {found[2], found[5]})
        torch.testing.assert_close(model(EXAMPLE), wanted)


def test_an_unknown_operator_freezes_the_channels() -> None:
    model = Net(lambda x: x.cumsum(1), 8)
    dependencies = dependencies_of(model)
    assert all(dependencies.is_frozen(group) for group in groups_of(dependencies, model.first))


def test_channels_whose_number_the_code_asks_for_are_frozen() -> None:
    model = Net(lambda x: torch.relu(x) if x.shape[1] == 8 else x, 8)
    dependencies = dependencies_of(model)
    assert all(dependencies.is_frozen(group) for group in groups_of(dependencies, model.first))


def test_the_outputs_of_the_network_are_frozen() -> None:
    model = Net(torch.relu, 8)
    dependencies = dependencies_of(model)
    assert all(dependencies.is_frozen(group) for group in groups_of(dependencies, model.last))


def test_layers_that_share_parameters_lose_no_channels_and_say_why() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    model[2].weight = model[0].weight
    reason = "it shares its parameters with another layer"
    assert dependencies_of(model).reasons == {"0": reason, "2": reason}


def test_united_labels_are_one_group_and_freeze_together() -> None:
    labels = UnionFind()
    a, b, c, d = labels.new(4)
    labels.unite(a, b)
    labels.unite_all([c], [d])
    assert labels.group_of(a) == labels.group_of(b) != labels.group_of(c) == labels.group_of(d)
    labels.freeze(ChannelMap(1, (b,)))
    assert labels.is_frozen(a)
    assert not labels.is_frozen(c)
    labels.unite(a, c)
    assert labels.is_frozen(d)
