"""Channels balanced between layers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn

from support.quantized import SmallUNet, context, pictures
from zoo.quantization.equalization import equalize, find_pairs
from zoo.quantization.output_deviation import OutputDeviation
from zoo.quantization.prepare import QuantizationConfig, calibrate, prepare
from zoo.quantization.quantizer_switches import rounding_off
from zoo.quantization.range_search import set_uniform_ranges
from zoo.surgery import signal_to_error


def uneven(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Four layers; what is between them differs in size by channel."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), activation(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), activation(),
        nn.MaxPool2d(2), nn.Conv2d(8, 8, 1), activation(),
        nn.Conv2d(8, 48, 1), nn.PixelShuffle(4),
    )  # fmt: skip
    if activation is not nn.ReLU6:
        factors = 2.0 ** torch.arange(8)
        with torch.no_grad():
            for first, second in ((0, 2), (5, 7)):
                net[first].weight.mul_(factors.view(-1, 1, 1, 1))
                net[first].bias.mul_(factors)
                net[second].weight.div_(factors.view((-1, 1, 1, 1) if second == 2 else (1, -1, 1, 1)))
    return net.eval()


def calibrated(net: nn.Module, x: torch.Tensor) -> fx.GraphModule:
    config = QuantizationConfig(observer="auto", weight_observer="minmax")
    module = prepare(copy.deepcopy(net), context(SmallUNet(), x), config)
    calibrate(module, [x])
    return module.eval()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU])
def test_the_network_stays_the_same_and_rounding_it_costs_less(activation: type[nn.Module]) -> None:
    x = pictures(4)
    net = uneven(activation)
    module = calibrated(net, x)
    output = OutputDeviation(module, [x], classifies=False)
    before = set_uniform_ranges(module, output)
    assert equalize(module, [x]) == 3
    calibrate(module, [x])
    with torch.no_grad(), rounding_off(module):
        assert signal_to_error(net(x), module(x)) > 100
    assert set_uniform_ranges(module, output) < before / 3


def test_clipped_channels_only_grow_and_are_the_same_on_what_was_seen() -> None:
    x = pictures(4)
    net = uneven(nn.ReLU6)
    module = calibrated(net, x)
    pair = next(iter(find_pairs(module)))
    assert pair.limit == 6
    before = pair.first.weight.detach().clone()
    equalize(module, [x])
    grown = (pair.first.weight.detach() / before).flatten(1).amax(1)
    assert float(grown.min()) >= 1
    assert float(grown.max()) > 1.5
    with torch.no_grad(), rounding_off(module):
        assert signal_to_error(net(x), module(x)) > 100


def test_what_is_read_twice_or_added_is_no_pair() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 12, 1)
            self.shuffle = nn.PixelShuffle(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x).relu()
            return self.shuffle(self.c(y + self.b(y)))

    assert not list(find_pairs(calibrated(Sum().eval(), pictures(2))))
