"""A file is held against its network in the engine, and what disagrees is found and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import onnx
from onnx import numpy_helper
from support.functions import Function
from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.errors import DisagreementError, ExportError, ZooError
from zoo.export.exporter import export_onnx
from zoo.export.file_agreement import FLOAT_DB, HALF_DB, check_file, compare_file
from zoo.surgery.agreement import accept_disagreement


class Own(Architecture):
    """Whatever network a test makes."""

    id, summary, task = "own", "a network of a test", "classification"
    input = InputSpec("rgb", 3, example=(16, 16), fixed_size=True)
    output = OutputSpec("logits", 10)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 3, 16, 16), dtype=np.float32)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(2048, 10),
    ).eval()  # fmt: skip


def altered(data: bytes, layer: str) -> bytes:
    """The file with other weights in a layer, as if an exporter had mistaken them."""
    model = onnx.load_model_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name == f"{layer}.weight":
            value = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(value * np.float32(1.5), tensor.name))
    return model.SerializeToString()


def test_a_float_file_agrees_far_beyond_the_bound() -> None:
    net = network()
    found = compare_file(net, Own(), export_onnx(net, Own()), [picture(), picture(1)])
    assert found.agrees
    assert found.bound == FLOAT_DB
    assert found.steadiness is None
    assert found.signal_to_error > 90
    assert found.to_json()["required_db"] == FLOAT_DB


def test_weights_in_16_bits_are_allowed_their_rounding() -> None:
    net = network()
    found = compare_file(
        net, Own(), export_onnx(net, Own(), half_weights=True), [picture()], half_weights=True
    )
    assert found.agrees
    assert found.bound == HALF_DB


@pytest.mark.parametrize(
    ("layer", "where"),
    [
        ("0", "in the input of '2' (tensor 'Relu_1:', computed by Conv, Relu)"),
        ("5", "behind '5', the last layer"),
    ],
)
def test_a_file_that_computes_something_else_is_refused_by_the_first_tensor_that_differs(
    layer: str, where: str
) -> None:
    net = network()
    data = altered(export_onnx(net, Own()), layer)
    with pytest.raises(DisagreementError) as caught:
        check_file(net, Own(), data, [picture()])
    assert where in caught.value.message
    assert "--accept-disagreement" in str(caught.value.hint)
    with accept_disagreement() as accepted:
        assert not check_file(net, Own(), data, [picture()]).agrees
    assert accepted == [caught.value.message]


def test_a_network_that_amplifies_rounding_is_held_against_itself() -> None:
    class Amplifies(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.frac(x * 1e6)

    net = nn.Sequential(network(), Amplifies()).eval()
    found = compare_file(net, Own(), export_onnx(net, Own()), [picture()])
    assert found.steadiness is not None
    assert found.bound < 20
    assert found.agrees


def test_a_network_that_does_not_run_on_an_input_is_refused_by_the_size() -> None:
    net = network()
    data = export_onnx(net, Own())
    with pytest.raises(ZooError, match="does not run on an input of 1x3x8x8"):
        compare_file(net, Own(), data, [picture()[..., :8, :8]])


@pytest.mark.parametrize(
    ("compute", "place", "hint"),
    [
        (
            lambda net, x: F.conv2d(net.a(x).double(), net.b.weight.double()).float(),
            "Conv behind 'a'",
            "float32",
        ),
        (lambda net, x: net.lstm(net.a(x).flatten(2))[0].flatten(1), "LSTM behind 'a'", "other operators"),
    ],
    ids=["float64", "projected"],
)
def test_a_file_that_the_engine_does_not_run_is_an_export_error_with_the_place(
    compute: Callable[[Any, Tensor], Tensor], place: str, hint: str
) -> None:
    net = Function(
        compute,
        a=nn.Conv2d(3, 3, 1),
        b=nn.Conv2d(3, 3, 1),
        lstm=nn.LSTM(256, 8, proj_size=4, batch_first=True),
    ).eval()
    with pytest.raises(ExportError, match=rf"does not run \({place}\)") as caught:
        compare_file(net, Own(), export_onnx(net, Own()), [picture()])
    assert hint in str(caught.value.hint)


COMPUTED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "clamp with an int and a float": lambda net, x: net.a(x).clamp(0, 0.5),
    "clamp in place": lambda net, x: net.a(x).clamp_(min=-1, max=0.5),
    "clamp of integers": lambda net, x: (x * 10).int().clamp(1, 5.5) * 1.0,
    "hardtanh with an int and a float": lambda net, x: F.hardtanh(net.a(x), -1, 0.5),
    "average with a divisor": lambda net, x: F.avg_pool2d(net.a(x), 2, divisor_override=3),
    "average with a divisor beyond the border": lambda net, x: torch.cat([
        F.avg_pool2d(net.a(x), 3, 2, padding, True, include, 5).flatten(1)
        for padding in (0, 1) for include in (True, False)
    ], 1),
    "average with a divisor and a border": lambda net, x: F.avg_pool2d(net.a(x), (3, 2), 2, 1, divisor_override=2),
    "adaptive maxima": lambda net, x: torch.cat([
        F.adaptive_max_pool2d(net.a(x), size).flatten(1) for size in (1, 4, 3, (5, 7))
    ], 1),
    "a branch that reads weights": lambda net, x: torch.cond(
        x.sum() > 0, lambda y: net.a(y) * 2, lambda y: net.a(y) + net.a.weight.sum(), (x,)
    ),
    "stacked": lambda net, x: torch.vstack([torch.dstack([torch.column_stack([torch.hstack([x, net.a(x)]), x])] * 2)]),
    "average beyond the border": lambda net, x: F.avg_pool2d(net.a(x), 3, 2, 1, ceil_mode=True),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_what_torch_exports_wrongly_by_itself_is_right(name: str) -> None:
    torch.manual_seed(0)
    net = Function(COMPUTED[name], a=nn.Conv2d(3, 3, 1)).eval()
    found = compare_file(net, Own(), export_onnx(net, Own()), [picture()])
    assert found.signal_to_error > 90
