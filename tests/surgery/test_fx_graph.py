"""Traced networks: shapes, paths, and changes that keep them running."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.surgery import (
    DataFlow,
    area_of,
    calls_of,
    clean_up_graph,
    concatenated_inputs,
    identity_conv,
    insert_after,
    layer_of,
    shape_of,
    summed_inputs,
    trace,
    unused_name,
)


class Net(nn.Module):
    """(N, 3, H, W) -> (N, 7, H, W): a residual link, then a concatenation with the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = y + self.twice(self.twice(y).relu_())
        return torch.cat([y, x], dim=1)


EXAMPLE = torch.rand(1, 3, 6, 5)


def test_a_trace_computes_the_same_and_shares_the_parameters() -> None:
    net = Net().eval()
    module = trace(net, EXAMPLE)
    with torch.no_grad():
        assert torch.equal(module(EXAMPLE), net(EXAMPLE))
    assert module.get_submodule("conv") is net.conv


def test_nothing_in_a_trace_changes_values_in_place() -> None:
    module = trace(Net(), EXAMPLE)
    assert not any(str(node.target).endswith("_") for node in module.graph.nodes)


def test_control_flow_on_values_is_refused_by_the_name_of_the_module() -> None:
    class Decides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ZooError, match=r"torch\.fx cannot follow '1' of Sequential"):
        trace(nn.Sequential(nn.ReLU(), Decides()), EXAMPLE)


def test_nodes_know_their_shapes_and_layers() -> None:
    net = Net()
    module = trace(net, EXAMPLE)
    nodes = {node.name: node for node in module.graph.nodes}
    assert shape_of(nodes["conv"]) == (1, 4, 6, 5)
    assert area_of(nodes["conv"]) == 30
    assert layer_of(module, nodes["conv"]) is net.conv
    assert layer_of(module, nodes["cat"]) is None
    assert [node.name for node in calls_of(module, net.twice)] == ["twice", "twice_1"]
    assert summed_inputs(nodes["add"]) == (nodes["conv"], nodes["twice_1"])
    assert concatenated_inputs(nodes["cat"]) == [nodes["add"], nodes["x"]]
    assert concatenated_inputs(nodes["add"]) is None


def test_dominators_are_what_every_path_passes_through() -> None:
    module = trace(Net(), EXAMPLE)
    flow = DataFlow(module)
    nodes = {node.name: node for node in module.graph.nodes}

    def names(found: list[torch.fx.Node]) -> list[str]:
        return [node.name for node in found]

    assert names(flow.common_dominators([nodes["add"]])) == ["x", "conv", "add"]
    assert names(flow.common_post_dominators([nodes["conv"]])) == ["conv", "add", "cat", "output"]
    assert names(flow.between(nodes["conv"], nodes["add"])) == ["twice", "relu_", "twice_1"]
    assert flow.depends_on(nodes["cat"], nodes["conv"])
    assert not flow.depends_on(nodes["conv"], nodes["cat"])
    assert names(flow.sources(nodes["cat"])) == ["add", "x"]


def test_a_module_is_inserted_for_all_users() -> None:
    net = Net().eval()
    with torch.no_grad():
        wanted = net(EXAMPLE)
    module = trace(net, EXAMPLE)
    assert unused_name(module, "conv") == "conv_2"
    (conv,) = calls_of(module, net.conv)
    new = insert_after(module, conv, "conv", identity_conv(4, like=net.conv.weight))
    clean_up_graph(module)
    assert new.target == "conv_2"
    assert set(new.users) == set(calls_of(module, net.twice)[:1]) | {
        node for node in module.graph.nodes if node.name == "add"
    }
    with torch.no_grad():
        assert torch.equal(module(EXAMPLE), wanted)


def test_cleaning_up_removes_what_nothing_uses() -> None:
    net = Net()
    module = trace(net, EXAMPLE)
    output = module.graph.output_node()
    output.args = (next(iter(calls_of(module, net.conv))),)
    clean_up_graph(module)
    assert set(dict(module.named_children())) == {"conv"}
    assert cast(Tensor, module(EXAMPLE)).shape == (1, 4, 6, 5)
