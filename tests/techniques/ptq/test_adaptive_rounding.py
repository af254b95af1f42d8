"""Weights rounded by what that does to the output of their layer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, fx, nn

from support.quantized import Classifier, context, pictures
from zoo.errors import UsageError
from zoo.quantization.output_deviation import OutputDeviation
from zoo.quantization.prepare import QuantizationConfig, calibrate, freeze, prepare
from zoo_techniques.ptq import PtqConfig
from zoo_techniques.ptq.adaptive_rounding import round_adaptively


class Layers(nn.Module):
    """A dense, a strided, a depthwise and two linear layers, one of them on rows of positions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense, self.depthwise = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 2, groups=16)
        self.rows, self.head = nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.dense(x).relu()).relu()
        return self.head(self.rows(x.flatten(2).transpose(1, 2)).relu().mean(1))


def quantized(net: nn.Module, x: Tensor) -> fx.GraphModule:
    config = QuantizationConfig(weight_bits=3, observer="minmax")
    module = prepare(copy.deepcopy(net), context(Classifier(), x), config)
    calibrate(module, [x])
    return module.eval()


def test_the_output_is_closer_and_every_weight_is_at_one_of_its_two_levels() -> None:
    net, x = Layers().eval(), 4 * pictures(8, channels=3, size=64) - 2
    module = quantized(net, x)
    output = OutputDeviation(module, [x], classifies=False)
    nearest = output.measure()
    skipped: list[str] = []
    moved = round_adaptively(module, [x[:4], x[4:]], lambda path, _: skipped.append(path))
    assert moved > 20
    assert not skipped
    assert output.measure() < 0.6 * nearest
    for path in ("dense", "depthwise", "rows", "head"):
        layer, was = module.get_submodule(path), net.get_submodule(path).weight
        assert isinstance(layer.weight_quantizer, nn.Module)
        steps = layer.weight_quantizer.scale.view(-1, *(1,) * (was.ndim - 1))  # type: ignore[union-attr, operator]
        levels = layer.weight / steps  # type: ignore[operator]
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        assert float((levels - was / steps).abs().max()) < 1 + 1e-3  # type: ignore[operator]
    found = output.measure()
    freeze(module)
    assert output.measure() == pytest.approx(found, rel=0.2), "finishing rounds nothing else"


def test_a_network_without_fixed_ranges_is_refused() -> None:
    with pytest.raises(UsageError, match="needs ranges of activations that are fixed"):
        PtqConfig(mode="dynamic", rounding="adaptive")
