"""Which tensors are known not to be negative, and what quantizers make of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from support.onnx_models import plain_run
from support.quantized import SmallUNet, pictures, quantized
from zoo.export import int8_coverage
from zoo.export.exporter import export_onnx
from zoo.export.int8_coverage import Int8Report, int8_report
from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.prepare import freeze
from zoo.quantization.value_signs import nonnegative_nodes
from zoo.surgery import propagate_shapes, trace

X = torch.linspace(-3, 3, 2 * 4 * 8 * 8).view(2, 4, 8, 8)

KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(0, 3),
    "clamp above zero": lambda x: torch.clamp(x, min=1.0),
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: x.softmax(1),
    "max pool": lambda x: F.max_pool2d(x.relu(), 2),
    "average pool": lambda x: F.avg_pool2d(x.relu(), 2),
    "mean": lambda x: x.relu().mean((2, 3)),
    "concatenation": lambda x: torch.cat([x.relu(), x.sigmoid()], 1),
    "sum": lambda x: x.relu() + x.sigmoid(),
    "product": lambda x: x.relu() * x.sigmoid(),
    "plus one": lambda x: x.relu() + 1,
    "padding": lambda x: F.pad(x.relu(), (1, 1, 1, 1)),
    "interpolation": lambda x: F.interpolate(x.relu(), scale_factor=2, mode="bilinear"),
}
UNKNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "input": lambda x: x * 1,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "tanh": torch.tanh,
    "clamp below": lambda x: x.clamp(-1, 1),
    "difference": lambda x: x.relu() - x.sigmoid(),
    "minus one": lambda x: x.relu() + -1,
    "minus one by name": lambda x: torch.add(x.relu(), other=-1),
    "half known": lambda x: torch.cat([x.relu(), x], 1),
    "cubic": lambda x: F.interpolate(x.relu(), scale_factor=2, mode="bicubic"),
    "cubic by position": lambda x: F.interpolate(x.relu(), None, 2, "bicubic"),
    "subtracting sum": lambda x: torch.add(x.relu(), x.sigmoid(), alpha=-1),
    "silu": F.silu,
}


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def result_is_nonnegative(function: Callable[[Tensor], Tensor]) -> bool:
    module = trace(Function(function).eval(), X)
    propagate_shapes(module, X)
    found = nonnegative_nodes(module)
    interpreter = fx.Interpreter(module, garbage_collect_values=False)
    interpreter.run(X)
    assert all(float(interpreter.env[node].min()) >= 0 for node in found)
    (output,) = module.graph.output_node().all_input_nodes
    return output in found


@pytest.mark.parametrize("name", KNOWN)
def test_what_cannot_be_negative_is_found(name: str) -> None:
    assert result_is_nonnegative(KNOWN[name])


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_may_be_negative_is_not_taken_for_it(name: str) -> None:
    assert not result_is_nonnegative(UNKNOWN[name])


class Residual(nn.Module):
    """A stem and two residual blocks, as of ResNets."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(4, 8, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.head, self.shuffle = nn.Conv2d(8, 12, 1), nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for one, two in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = F.relu(two(F.relu(one(x))) + x)
        return self.shuffle(self.head(x))


class Split(nn.Module):
    """A ReLU whose input is used with its sign as well."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(4, 4, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.three(self.two(F.relu(x)) + x)


def lowest_levels(module: nn.Module) -> dict[str, int]:
    found = {name: q for name, q in module.named_modules() if isinstance(q, FakeQuantize) and not q.weight}
    return {name.removeprefix("quantizers."): quantizer.low for name, quantizer in found.items()}


def as_anyone_loads_it(data: bytes) -> Int8Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_coverage, "prepare_for_onnxruntime", lambda data, **_: data)
        return int8_report(data)


def test_a_residual_network_runs_in_int8_in_plain_onnx_runtime() -> None:
    module, _ = quantized(Residual(), pictures(2))
    lowest = sorted(lowest_levels(module).values())
    assert max(lowest[:3]) < 0
    assert lowest[3:] == [0] * 5
    data = export_onnx(freeze(module.eval()), SmallUNet())
    for report in (int8_report(data), as_anyone_loads_it(data)):
        assert report.float == ("head",)
        assert report.operators["QLinearAdd"] == 2
        assert not {"Relu", "QLinearLeakyRelu"} & report.operators.keys()
        assert report.operators["QuantizeLinear"] == 1
        assert report.operators["DequantizeLinear"] == 2  # the head's input and its weight
    x = pictures(2)
    with torch.no_grad():
        expected = module(x).clamp(0, 1).numpy()
    assert np.abs(plain_run(data, x.numpy()) - expected).max() < 0.02


def test_a_relu_whose_input_is_used_with_its_sign_has_a_scale_of_its_own() -> None:
    module, _ = quantized(Split(), pictures(2))
    lowest = lowest_levels(module)
    assert lowest["one"] < 0 == lowest["relu"]
