"""Layers that pass a network's input on to its output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support.functions import Function
from support.quantized import SmallUNet, context, pictures
from zoo.architectures.swift_unet_module import SwiftUNet
from zoo.options import parse_options
from zoo.quantization.direct_layers import direct_layers
from zoo.quantization.prepare import weighted_layers
from zoo.surgery import signal_to_error, trace
from zoo_techniques.ptq import Ptq, PtqConfig


def layers() -> dict[str, nn.Module]:
    names = ("a", "b", "c", "direct", "gate")
    return {name: nn.Conv2d(4, 4, 3, padding=1) for name in names}


def added(net: Any, x: Tensor) -> Tensor:
    return net.c(net.b(net.a(x).relu()).relu()) + net.direct(x * net.gate(x).sigmoid())


def gated_inside_too(net: Any, x: Tensor) -> Tensor:
    gate = net.gate(x).sigmoid()
    return net.c(net.b(net.a(x) * gate).relu()) + net.direct(x * gate)


def joined(net: Any, x: Tensor) -> Tensor:
    return net.direct(net.c(net.b(net.a(x).relu()).relu()) + x)


def short(net: Any, x: Tensor) -> Tensor:
    return net.direct(net.a(x).relu() * x)


@pytest.mark.parametrize(
    ("forward", "expected"),
    [(added, {"direct", "gate"}), (gated_inside_too, {"direct"}), (joined, set()), (short, set())],
)
def test_only_a_way_past_the_network_is_direct(
    forward: Callable[[Any, Tensor], Tensor], expected: set[str]
) -> None:
    module = trace(Function(forward, **layers()), pictures(1))
    assert direct_layers(module, weighted_layers(module)) == expected


def test_a_picture_on_its_way_past_the_network_is_not_rounded() -> None:
    torch.manual_seed(0)
    net, x = SwiftUNet(widths=(8, 8, 8, 8)).eval(), torch.rand(2, 8, 32, 32)
    found = {}
    for mixed in ((), ("demosaic:8", "gate:8")):
        where = context(SmallUNet(), x)
        technique = Ptq(parse_options("ptq", PtqConfig, {"observer": "minmax", "mixed": mixed}))
        module = technique.finish(technique.rewrite(net, where).eval(), where)
        with torch.no_grad():
            found[mixed] = signal_to_error(net(x), module(x))
    assert found[()] > found["demosaic:8", "gate:8"] + 10
