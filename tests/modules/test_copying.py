"""Networks are copied whatever a call of them left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.modules.copying import copied
from zoo.testing import attempt


class Keeping(nn.Module):
    """Keeps its features, in attributes and containers."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)
        self.kept: dict[str, list[Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.body(x).relu()
        self.kept["last"] = [self.last]
        return self.head(self.last.mean((2, 3)))


class KeepingArchitecture(Architecture):
    id, summary, task = "keeping", "keeps its features", "classification"
    input = InputSpec("rgb", 3, example=(8, 8), fixed_size=True)
    output = OutputSpec("logits", 2)

    def build(self) -> nn.Module:
        return Keeping()


def test_tensors_kept_from_a_call_are_copied_without_their_history() -> None:
    net = Keeping()
    net(torch.rand(1, 3, 8, 8))
    copy = copied(net)
    assert torch.equal(copy.last, net.last)
    assert copy.kept["last"][0] is copy.last
    assert copy.last.grad_fn is None
    assert net.last.grad_fn is not None


def test_functions_set_on_a_network_compute_with_its_copy_and_the_network_is_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    whole = net.forward
    net.forward = function = lambda x: whole(x) + net[0](x)  # type: ignore[method-assign]
    copy = copied(net)
    assert net.forward is function
    nn.init.zeros_(copy[0].weight)  # type: ignore[arg-type]
    nn.init.zeros_(copy[0].bias)  # type: ignore[arg-type]
    assert not copy(torch.ones(1, 2)).any()
    assert net(torch.ones(1, 2)).any()


def test_a_network_that_keeps_its_features_is_trained_and_exported() -> None:
    pytest.importorskip("onnx")
    assert attempt([], KeepingArchitecture()).comparison.agrees
