"""Quantizers that are switched off and on, one layer at a time."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from support.quantized import SmallUNet, context, pictures
from zoo.quantization.output_deviation import OutputDeviation
from zoo.quantization.prepare import QuantizationConfig, calibrate, prepare
from zoo.quantization.quantizer_switches import (
    all_off_but,
    layer_errors,
    layer_quantizers,
    quantizers_of,
    rounding_off,
    switched_off,
)


def calibrated(*, spoiled: int | None = None) -> tuple[fx.GraphModule, torch.Tensor]:
    """Four convolutions; one weight of layer `spoiled` is so large that the others are rounded to zero."""
    torch.manual_seed(0)
    net = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())))
    net.append(nn.Conv2d(4, 12, 1)).append(nn.PixelShuffle(2))
    if spoiled is not None:
        with torch.no_grad():
            net[spoiled].weight[:, 0, 0, 0] = 1000 * torch.sign(net[spoiled].weight[:, 0, 0, 0])
            net[spoiled - 2].weight[0] = 0  # the large weight meets zeros, and changes nothing in float
            net[spoiled - 2].bias[0] = 0
    x = pictures(2)
    scheme = QuantizationConfig(observer="minmax")
    module = prepare(net.eval(), context(SmallUNet(), x), scheme)
    calibrate(module, [x])
    return module.eval(), x


def test_each_layer_has_its_weight_and_its_input() -> None:
    module, _ = calibrated()
    found = layer_quantizers(module)
    assert list(found) == ["0", "2", "4", "6"]
    assert all(each.weight.weight and len(each.inputs) == 1 for each in found.values())
    assert len(quantizers_of(module)) == len({q for each in found.values() for q in each.all})


def test_switches_return_to_where_they_were_even_after_an_error() -> None:
    module, x = calibrated()
    before = module(x)
    quantizers = layer_quantizers(module)["2"].all
    with switched_off(quantizers):
        assert not torch.equal(module(x), before)
    with pytest.raises(RuntimeError), all_off_but(module, quantizers):
        raise RuntimeError
    assert torch.equal(module(x), before)
    with all_off_but(module, []):
        nothing_rounded = module(x)
    with rounding_off(module):
        assert torch.equal(module(x), nothing_rounded)


@pytest.mark.parametrize("spoiled", [2, 4])
def test_the_layer_that_rounding_destroys_comes_first(spoiled: int) -> None:
    module, x = calibrated(spoiled=spoiled)
    before = module(x)
    errors = layer_errors(module, OutputDeviation(module, [x], classifies=False).measure)
    worst, second, *_ = errors.values()
    assert next(iter(errors)) == str(spoiled)
    assert worst > 10 * second
    assert torch.equal(module(x), before)
