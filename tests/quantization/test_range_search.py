"""Ranges chosen by the error that they cause further on."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from support.quantized import Classifier, SmallUNet, context, pictures
from zoo.contracts import InputSpec, SilentReporter
from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.observers import CANDIDATES
from zoo.quantization.output_deviation import OutputDeviation, busiest_windows
from zoo.quantization.prepare import QuantizationConfig, calibrate, prepare
from zoo.quantization.quantized_layers import QuantConv2d
from zoo.quantization.range_search import search_ranges
from zoo_techniques.ptq import Ptq, PtqConfig


def rare() -> nn.Module:
    """A network whose first layer makes a few large values, on which its result depends entirely."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 1),
        nn.PixelShuffle(2),
    )
    with torch.no_grad():
        net[2].weight *= 0.05
        net[2].weight[:, 0] = 4.0
        net[0].weight[0] = 3.0
        net[0].bias[0] = -95.0  # all but the brightest corners are cut off
    return net.eval()


def calibrated(net: nn.Module, x: torch.Tensor) -> fx.GraphModule:
    module = prepare(
        net, context(SmallUNet(), x), QuantizationConfig(observer="auto", weight_observer="minmax")
    )
    calibrate(module, [x])
    return module.eval()


def activations(module: nn.Module) -> dict[str, FakeQuantize]:
    found = {path: each for path, each in module.named_modules() if isinstance(each, FakeQuantize)}
    return {path: each for path, each in found.items() if not each.weight}


def test_every_candidate_is_an_observers_range() -> None:
    module = calibrated(rare(), pictures(4))
    for quantizer in activations(module).values():
        assert tuple(quantizer.candidates) == CANDIDATES
        assert max(quantizer.candidates.values()) == quantizer.candidates["minmax"]


def test_no_observer_for_all_is_much_better_than_the_choice() -> None:
    x = pictures(8)
    module = calibrated(rare(), x)
    output = OutputDeviation(module, [x], classifies=False)
    chosen = search_ranges(module, [x], output)
    assert output.measure() == pytest.approx(chosen.error, rel=1e-6)
    assert sum(chosen.tensors.values()) == len(activations(module))
    for name in CANDIDATES:
        for quantizer in activations(module).values():
            quantizer.set_range(torch.tensor([quantizer.candidates[name]]))
        least = chosen.error * (1 if name == "minmax" else 0.6)
        assert output.measure() >= least * (1 - 1e-6)


def test_values_that_matter_are_not_cut_off() -> None:
    x = pictures(8)
    module = calibrated(rare(), x)
    search_ranges(module, [x], OutputDeviation(module, [x], classifies=False))
    _, first, _ = activations(module).values()
    assert float(first.scale * first.high) == pytest.approx(first.candidates["minmax"], rel=0.05)


@pytest.mark.parametrize(("narrower", "chosen"), [(0.9, "minmax"), (0.5, "mse")])
def test_a_narrower_range_must_save_much_of_the_error(narrower: float, chosen: str) -> None:
    x = pictures(8)
    net = nn.Sequential(nn.Conv2d(4, 12, 1), nn.PixelShuffle(2)).eval()
    module = calibrated(net, x)
    (first,) = activations(module).values()
    largest = 2 * first.candidates["minmax"]
    first.candidates = {"minmax": largest, "mse": narrower * largest}
    found = search_ranges(module, [x], OutputDeviation(module, [x], classifies=False))
    assert found.tensors == {chosen: 1}


def test_weights_have_for_each_channel_the_range_that_suits_its_inputs() -> None:
    x = pictures(8)
    module = calibrated(rare(), x)
    layer = module.get_submodule("2")
    assert isinstance(layer, QuantConv2d)
    before = layer.weight_quantizer.scale.clone()
    search_ranges(module, [x], OutputDeviation(module, [x], classifies=False), weights=False)
    assert torch.equal(layer.weight_quantizer.scale, before)
    search_ranges(module, [x], OutputDeviation(module, [x], classifies=False))
    assert (layer.weight_quantizer.scale <= before).all()
    assert layer.weight_quantizer.scale.shape == (8,)


def test_an_output_without_rounding_has_no_error_and_probabilities_are_compared() -> None:
    x = pictures(4, channels=3, size=64)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    module = prepare(net.eval(), context(Classifier(), x), QuantizationConfig(observer="minmax"))
    calibrate(module, [x])
    output = OutputDeviation(module.eval(), [x], classifies=True)
    assert output.measure() > 0
    for quantizer in module.modules():
        if isinstance(quantizer, FakeQuantize):
            quantizer.mode = "off"
    assert output.measure() == pytest.approx(0, abs=1e-9)


def test_ptq_says_what_its_steps_won() -> None:
    where = context(SmallUNet(), pictures(4))
    where.report = notes = SilentReporter()
    Ptq(PtqConfig()).rewrite(rare(), where)
    assert any("error of the output" in text for text in notes.notes)
    assert any("correcting biases wins" in text for text in notes.notes)


def test_a_window_is_where_the_largest_value_is_and_networks_of_one_size_keep_their_images() -> None:
    x = torch.zeros(2, 4, 512, 256)
    x[0, 3, 500, 10], x[1, 0, 200, 100] = -9.0, 9.0
    (found,) = busiest_windows([x], InputSpec("packed-raw", 4, 16, (64, 64)))
    assert found.shape == (2, 4, 256, 256)
    assert found.abs().amax((1, 2, 3)).tolist() == [9.0, 9.0]
    (whole,) = busiest_windows([x], InputSpec("packed-raw", 4, 16, (512, 256), fixed_size=True))
    assert torch.equal(whole, x)
    small = x[:, :, :48, :40]
    assert torch.equal(busiest_windows([small], InputSpec("packed-raw", 4, 16, (64, 64)))[0], small)
