"""Observing layers: what goes in and comes out, in which form, and nothing left behind."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from zoo.surgery import as_images, detect_external_reads, evaluating, on_device_of, record_inputs, watch


class Twice(nn.Module):
    """One convolution called twice, and a linear layer on what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.conv(self.conv(x)))
        return cast(Tensor, self.linear(x.flatten(2).transpose(1, 2)))


def test_evaluating_restores_the_mode_of_every_module() -> None:
    net = Twice().train()
    net.drop.eval()
    with evaluating(net):
        assert not any(module.training for module in net.modules())
        assert not net(torch.rand(1, 3, 8, 8)).requires_grad
    assert net.training
    assert net.conv.training
    assert not net.drop.training


def test_evaluating_restores_it_after_an_error() -> None:
    net = Twice().train()
    with pytest.raises(RuntimeError), evaluating(net):
        net(torch.rand(1, 4, 8, 8))
    assert net.training


def test_every_call_is_watched_in_order_as_images() -> None:
    net = Twice().eval()
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    watch(net, [net.linear, net.conv], torch.rand(2, 3, 8, 8), lambda *call: calls.append(call))
    assert [module for module, _, _ in calls] == [net.conv, net.conv, net.linear]
    assert torch.equal(calls[0][2], calls[1][1]), "the second call reads what the first computed"
    assert [tuple(value.shape) for value in calls[2][1:]] == [(2, 3, 64, 1), (2, 2, 64, 1)]
    assert not net.conv._forward_hooks


def test_hooks_are_removed_when_the_network_fails() -> None:
    net = Twice().eval()
    with pytest.raises(RuntimeError):
        watch(net, [net.conv], torch.rand(1, 4, 8, 8), lambda *call: None)
    assert not net.conv._forward_hooks


def test_inputs_are_recorded_up_to_the_calls_asked_for() -> None:
    net = Twice().eval()
    batch = torch.rand(1, 3, 8, 8)
    (first,) = record_inputs(net, net.conv, batch, 1)
    assert torch.equal(first, batch)
    assert len(record_inputs(net, net.conv, batch, 5)) == 2


def test_a_network_is_not_run_beyond_the_last_recorded_call() -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the rest of the network ran")

    net = Twice().eval()
    net.linear.register_forward_pre_hook(fail)
    assert len(record_inputs(net, net.conv, torch.rand(1, 3, 8, 8), 2)) == 2


@pytest.mark.parametrize(
    ("layer", "shape", "images"),
    [
        (nn.Conv2d(3, 3, 1), (3, 5, 7), (1, 3, 5, 7)),
        (nn.Linear(4, 4), (4,), (1, 4, 1, 1)),
        (nn.Linear(4, 4), (2, 4), (2, 4, 1, 1)),
        (nn.Linear(4, 4), (2, 5, 6, 4), (2, 4, 30, 1)),
    ],
)
def test_inputs_of_other_ranks_become_images(
    layer: nn.Module, shape: tuple[int, ...], images: tuple[int, ...]
) -> None:
    assert as_images(layer, torch.rand(shape)).shape == images


def test_a_weight_that_other_code_reads_is_noticed() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.called, self.read = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.called(x)) @ self.read.weight

    net = Reads()
    with detect_external_reads([net.called, net.read]) as found:
        net(torch.rand(2, 3))
    assert found == {net.read}
    assert type(net.read) is nn.Linear


def test_a_network_without_parameters_takes_a_batch_where_it_is() -> None:
    batch = torch.rand(1, 3)
    assert on_device_of(nn.ReLU(), batch) is batch
