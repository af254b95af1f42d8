"""Arithmetic of exporters that becomes layers of torch."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from onnx import TensorProto, helper, numpy_helper
from zoo.conversion.converter import convert_onnx

CONSTANTS = {"three": 3.0, "six": 6.0, "zero": 0.0, "sixth": 1 / 6, "four": 4.0}


def converted(steps: list[tuple[str, list[str], str]]) -> list[type[nn.Module]]:
    """Return the kinds of the layers that a file of `steps`, from "x" to "y", is converted to."""
    weight = np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    row = np.random.default_rng(1).normal(0, 1, (1, 4, 1, 1)).astype(np.float32)
    held = [numpy_helper.from_array(np.float32(value), name) for name, value in CONSTANTS.items()]
    held += [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(row, "row")]
    nodes = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in steps]
    graph = helper.make_graph(
        nodes,
        "arithmetic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, None, None, None])],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    example = np.random.default_rng(2).normal(0, 4, (1, 3, 12, 12)).astype(np.float32)
    # what is merged is held against the file in ONNX Runtime here
    network = convert_onnx(model.SerializeToString(), example, fixed=True, source="file").network
    assert not any(node.op == "call_function" for node in network.graph.nodes) or "four" in str(steps)
    return [type(layer) for layer in network.children() if type(layer) is not nn.Module]


RAMP = [("Add", ["x", "three"], "a"), ("Clip", ["a", "zero", "six"], "b")]


@pytest.mark.parametrize(
    "steps",
    [
        [("Mul", ["x", "b"], "c"), ("Div", ["c", "six"], "y")],
        [("Mul", ["b", "x"], "c"), ("Mul", ["c", "sixth"], "y")],
        [("Div", ["b", "six"], "c"), ("Mul", ["x", "c"], "y")],
        [("Mul", ["b", "sixth"], "c"), ("Mul", ["c", "x"], "y")],
    ],
)
def test_a_hard_swish_becomes_one_layer(steps: list[tuple[str, list[str], str]]) -> None:
    assert converted([*RAMP, *steps]) == [nn.Hardswish]


def test_a_hard_sigmoid_becomes_one_layer() -> None:
    assert converted([*RAMP, ("Div", ["b", "six"], "y")]) == [nn.Hardsigmoid]


def test_what_only_looks_like_it_stays_arithmetic() -> None:
    other = [("Add", ["x", "four"], "a"), RAMP[1], ("Mul", ["x", "b"], "c"), ("Div", ["c", "six"], "y")]
    assert converted(other) == [nn.ReLU6]


def test_a_sum_with_one_constant_per_channel_becomes_the_bias() -> None:
    assert converted([("Conv", ["x", "weight"], "a"), ("Add", ["row", "a"], "y")]) == [nn.Conv2d]


def test_a_convolution_that_is_read_elsewhere_keeps_its_sum() -> None:
    both = [
        ("Conv", ["x", "weight"], "a"),
        ("Add", ["a", "row"], "b"),
        ("Mul", ["a", "b"], "c"),
        ("Mul", ["c", "four"], "y"),
    ]
    assert converted(both) == [nn.Conv2d]
