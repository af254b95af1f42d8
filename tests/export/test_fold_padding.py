"""Padding with zeros is done by convolutions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.onnx_models import plain_run
from support.quantized import SmallUNet, pictures, quantized
from zoo.export.exporter import export_onnx
from zoo.quantization.prepare import freeze

onnx = pytest.importorskip("onnx")


class Padded(nn.Module):
    """Two convolutions, before the second of which something pads (N, 8, H, W)."""

    def __init__(self, pad: Callable[[Tensor], Tensor], padding: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=padding)
        self.shuffle, self.pad = nn.PixelShuffle(2), pad

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.two(self.pad(self.one(x).relu())))


class Twice(Padded):
    """What is padded is also used otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        padded = self.pad(self.one(x))
        return self.shuffle(self.two(padded) + padded.mean())


def asymmetric(x: Tensor) -> Tensor:
    return F.pad(x, (0, 2, 1, 1))


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


def computed(net: nn.Module, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return net(x).clamp(0, 1).numpy()


@pytest.mark.parametrize("pad", [nn.ZeroPad2d((0, 2, 1, 1)), asymmetric])
def test_a_float_file_computes_the_same_without_an_operator_for_it(pad: Callable[[Tensor], Tensor]) -> None:
    net, x = Padded(pad, padding=1).eval(), pictures(2)
    data = export_onnx(net, SmallUNet())
    assert "Pad" not in operators(data)
    convolution = [node for node in onnx.load_from_string(data).graph.node if node.op_type == "Conv"][1]
    assert next(list(a.ints) for a in convolution.attribute if a.name == "pads") == [2, 1, 2, 3]
    assert np.allclose(plain_run(data, x.numpy()), computed(net, x), atol=1e-5)


def test_in_int8_the_pair_behind_it_goes_too() -> None:
    module, _ = quantized(Padded(nn.ZeroPad2d((0, 2, 1, 1))), pictures(2))
    data, x = export_onnx(freeze(module.eval()), SmallUNet()), pictures(2)
    found = operators(data)
    assert "Pad" not in found
    assert found.count("QuantizeLinear") == 2  # of the input, and of what is padded
    assert np.allclose(plain_run(data, x.numpy()), computed(module, x), atol=1e-3)


@pytest.mark.parametrize(
    "net",
    [
        Padded(nn.ReflectionPad2d(1)),
        Padded(nn.ConstantPad2d(1, 0.5)),
        Padded(nn.ZeroPad2d((-1, 1, 0, 0))),
        Twice(nn.ZeroPad2d(1)),
    ],
    ids=["reflection", "other value", "cropping", "second user"],
)
def test_other_padding_stays_an_operator(net: nn.Module) -> None:
    data, x = export_onnx(net.eval(), SmallUNet()), pictures(2)
    assert "Pad" in operators(data)
    assert np.allclose(plain_run(data, x.numpy()), computed(net, x), atol=1e-5)
