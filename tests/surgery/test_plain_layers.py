"""Layers of classes of their own become torch's where that computes the same, for every size of input."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.exported import run
from tests.support.quantized import Classifier, context, pictures
from zoo.contracts import OutputSpec
from zoo.export.exporter import export_onnx
from zoo.quantization.prepare import calibrate, freeze, prepare
from zoo.quantization.quantized_layers import QuantConv2d
from zoo.surgery import PlainLayer, is_plain, make_layers_plain, trace
from zoo.training.weights import fit_weights


class StaticSame(nn.Conv2d):
    """Pads by a layer of its own, for one size of input."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.before = nn.ZeroPad2d((0, 1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.before(x), self.weight, self.bias, self.stride)


class DynamicSame(nn.Conv2d):
    """Pads by the size of its input, in Python's arithmetic."""

    def forward(self, x: Tensor) -> Tensor:
        amounts: list[int] = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            amounts += [total // 2, total - total // 2]
        x = F.pad(x, amounts) if any(amounts) else x
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Centred(nn.Conv2d):
    """Subtracts the mean of its weights, the norm being a layer of its own."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.norm = nn.InstanceNorm1d(1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.norm(self.weight.flatten(1)[:, None]).reshape(self.weight.shape)
        return F.conv2d(x, weight, self.bias, self.stride, 1)


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 3, None if self.bias is None else self.bias * 2)


class NotASubclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, padding=1)


class Dependent(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * x.mean(), self.bias)


class Clipped(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp_min(0)


@pytest.mark.parametrize(
    ("layer", "sizes", "folded"),
    [
        (StaticSame(4, 4, 3, stride=2), [16], False),
        (DynamicSame(4, 6, 3, stride=2), [16, 17, 5, 1], False),
        (DynamicSame(4, 6, 5, stride=1), [16, 17], False),
        (DynamicSame(4, 6, 2, stride=(4, 3)), [16, 17, 18, 19], False),
        (timm.layers.Conv2dSame(4, 4, 5, 2, groups=2), [16, 17, 19], False),
        (timm.layers.StdConv2d(4, 4, 3, padding=1), [16, 17], True),
        (timm.layers.StdConv2dSame(4, 4, 3, 2), [16, 17], True),
        (timm.layers.ScaledStdConv2d(4, 4, 3, padding=1), [16], True),
        (timm.layers.ScaledStdConv2dSame(4, 4, 3, 2), [16, 17], True),
        (Centred(4, 4, 3), [16, 17], True),
        (NotASubclass(), [16, 17], False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_plain_form_computes_the_same_at_every_size(
    layer: nn.Module, sizes: list[int], folded: bool
) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), layer).eval()
    plain = copy.deepcopy(net)
    made = make_layers_plain(plain, torch.rand(1, 4, 16, 16))
    assert made == [PlainLayer("1", type(layer).__name__, folded)]
    assert all(type(each) is nn.Conv2d for each in plain.modules() if isinstance(each, nn.Conv2d))
    for height in sizes:
        for width in sizes:
            x = torch.randn(2, 4, height, width)
            assert torch.equal(net(x), plain(x))
    assert make_layers_plain(plain, torch.rand(1, 4, 16, 16)) == []


def test_a_linear_layer_keeps_the_weight_that_it_computes() -> None:
    net = nn.Sequential(nn.Flatten(), Scaled(12, 5)).eval()
    plain, x = copy.deepcopy(net), torch.rand(3, 3, 2, 2)
    assert make_layers_plain(plain, x)[0].folded
    assert torch.equal(net(x), plain(x))


@pytest.mark.parametrize(
    "layer", [Dependent(4, 4, 1), Clipped(4, 4, 1)], ids=["input-dependent", "with activation"]
)
def test_what_no_plain_layer_computes_stays(layer: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), layer).eval()
    assert make_layers_plain(net, torch.rand(1, 4, 16, 16)) == []
    assert net[1] is layer
    assert not is_plain(layer)


def test_a_layer_that_the_network_reads_from_stays() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = timm.layers.StdConv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * (self.conv.eps + 1)

    net = Reads().eval()
    assert make_layers_plain(net, torch.rand(1, 4, 8, 8)) == []
    assert isinstance(net.conv, timm.layers.StdConv2d)


def test_trained_plain_weights_go_back_into_the_same_function() -> None:
    def build(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        return nn.Sequential(
            DynamicSame(3, 8, 3, stride=2), nn.ReLU(), timm.layers.StdConv2d(8, 10, 3), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ).eval()  # fmt: skip

    trained = build(0)
    make_layers_plain(trained, pictures(1, channels=3, size=64))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    fresh, x = build(1), pictures(2, channels=3, size=64)
    assert fit_weights(fresh, trained.state_dict(), Classifier()) == ""
    assert torch.equal(fresh(x), trained(x))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        DynamicSame(3, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        timm.layers.Conv2dSame(16, 16, 3, 2, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        timm.layers.StdConv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 10, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip


def test_every_such_convolution_runs_in_int8() -> None:
    net, x = network(), pictures(4, channels=3, size=64)
    where = context(Classifier(), x)
    expected = net(x)
    module = prepare(copy.deepcopy(net), where)
    assert sum(isinstance(each, QuantConv2d) for each in module.modules()) == 4
    assert not any(isinstance(each, nn.BatchNorm2d) for each in module.modules())
    calibrate(module, [x])
    found = freeze(module).eval()(x)
    assert (found - expected).std() < 0.05 * expected.std() + 0.01


def test_padding_by_size_is_exported_for_any_size() -> None:
    class AnySize(Classifier):
        output = OutputSpec("logits", 10)
        input = Classifier.input.__class__("rgb", 3, example=(64, 64))

    net = trace(network(), pictures(1, channels=3, size=64))
    data = export_onnx(net, AnySize())
    for height, width in ((64, 64), (65, 71), (66, 63)):
        x = torch.rand(1, 3, height, width)
        assert torch.allclose(run(data, x), net(x), atol=1e-5)
