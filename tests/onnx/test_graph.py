"""Graphs read from ONNX files, and files encoded part by part, held against the onnx package."""

from __future__ import annotations

import numpy as np
import pytest

import onnx
from zoo.onnx.encoding import encode_model, encode_node, encode_tensor
from zoo.onnx.fields import FLOAT
from zoo.onnx.graph import ValueInfo, read_model

helper = onnx.helper


def _model_with(**attributes: object) -> bytes:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", **attributes)
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, 8, 8]) for name in "xy"]
    weight = onnx.numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    return helper.make_model(graph).SerializeToString()


def test_attributes_of_each_type_are_read() -> None:
    (node,) = read_model(
        _model_with(strides=[2, 2], pads=[0, -1, 0, 1], group=1, auto_pad="NOTSET", alpha=0.5)
    ).nodes
    assert node.attributes == {
        "strides": [2, 2],
        "pads": [0, -1, 0, 1],
        "group": 1,
        "auto_pad": "NOTSET",
        "alpha": None,
    }


def test_packed_lists_are_read_too() -> None:
    """As protobuf's third version writes them."""
    data = _model_with(strides=[2, 3])
    unpacked, packed = b"\x40\x02\x40\x03", b"\x42\x02\x02\x03"
    assert data.count(unpacked) == 1
    (node,) = read_model(data.replace(unpacked, packed)).nodes
    assert node.attributes["strides"] == [2, 3]


@pytest.mark.parametrize(("count", "kept"), [(128, True), (129, False), (100_000, False)])
def test_long_lists_are_not_kept(count: int, kept: bool) -> None:
    (node,) = read_model(_model_with(pads=[1] * count)).nodes
    assert node.attributes["pads"] == ([1] * count if kept else None)


def test_an_encoded_file_is_one_that_onnx_accepts_and_reads_back() -> None:
    weight = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    content = encode_tensor("w", FLOAT, weight.shape, weight.tobytes())
    content += encode_node("Conv", ["x", "w"], "y", strides=[2, 2])
    inputs, outputs = ValueInfo("x", FLOAT, [None, 1, 8, 8]), ValueInfo("y", FLOAT, [None, 1, 3, 3])
    data = encode_model(content, [inputs], [outputs], opset=17)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    graph = read_model(data)
    assert (graph.opset, graph.version) == (17, 8)
    assert (graph.inputs, graph.results) == ([inputs], [outputs])
    assert graph.nodes[0].attributes == {"strides": [2, 2]}
