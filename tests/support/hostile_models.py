"""Networks that trap, hang, fill memory or give something else than their manifest states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import onnx
from onnx import TensorProto, helper, numpy_helper
from support import tiny
from zoo.artifacts import Artifact, write_artifact


def _ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def model_of(nodes: Sequence[onnx.NodeProto], tensors: Sequence[onnx.TensorProto] = ()) -> bytes:
    """A network from "input", 4 x h x w, over "picture", 3 x 2h x 2w, to "output"; the nodes begin at "picture"."""
    weight = numpy_helper.from_array(np.full((12, 4, 1, 1), 0.25, np.float32), "weight")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "weight"], ["wide"]),
            helper.make_node("DepthToSpace", ["wide"], ["picture"], blocksize=2, mode="CRD"),
            *nodes,
        ],
        "hostile",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4, "H", "W"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3, "H2", "W2"])],
        [weight, *tensors],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return made.SerializeToString()


def picture_then(operator: str, *further: onnx.TensorProto, **attributes: Any) -> bytes:
    """A network whose last step is one operator on the picture and further inputs."""
    inputs = ["picture", *(each.name for each in further)]
    return model_of([helper.make_node(operator, inputs, ["output"], **attributes)], further)


def trap() -> bytes:
    """Divides the least integer by -1, which ends the process by a signal."""
    nodes = [
        helper.make_node("Shape", ["picture"], ["sides"]),
        helper.make_node("Sub", ["sides", "sides"], ["zeros"]),
        helper.make_node("Add", ["zeros", "least"], ["integers"]),
        helper.make_node("Div", ["integers", "minus_one"], ["quotients"]),
        helper.make_node("Cast", ["quotients"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["picture", "mean"], ["output"]),
    ]
    return model_of(nodes, [_ints("least", -(1 << 63)), _ints("minus_one", -1)])


def outer_product() -> bytes:
    """Multiplies each pixel with each other one: a gigabyte for 64 x 64, a thousand for a camera's frame."""
    nodes = [
        helper.make_node("Reshape", ["picture", "column"], ["c"]),
        helper.make_node("Reshape", ["picture", "row"], ["r"]),
        helper.make_node("MatMul", ["c", "r"], ["all"]),
        helper.make_node("ReduceMax", ["all"], ["most"], keepdims=0),
        helper.make_node("Mul", ["picture", "most"], ["output"]),
    ]
    return model_of(nodes, [_ints("column", -1, 1), _ints("row", 1, -1)])


def endless() -> bytes:
    """Multiplies matrices for minutes, in little memory."""
    least = numpy_helper.from_array(np.float32(0.001), "little")
    products = [helper.make_node("MatMul", [f"m{n}", "m0"], [f"m{n + 1}"]) for n in range(1000)]
    nodes = [
        helper.make_node("ConstantOfShape", ["sides"], ["zeros"]),
        helper.make_node("ReduceMax", ["picture"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "little"], ["small"]),
        helper.make_node("Add", ["zeros", "small"], ["m0"]),
        *products,
        helper.make_node("ReduceMax", ["m1000"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["picture", "mean"], ["output"]),
    ]
    return model_of(nodes, [_ints("sides", 1500, 1500), least])


def wrong_outputs() -> dict[str, bytes]:
    """Networks whose output is not what the manifest states, by what is wrong with it."""
    nan = numpy_helper.from_array(np.float32(np.nan), "nan")
    infinite = numpy_helper.from_array(np.float32(np.inf), "infinite")
    first, none = _ints("first", 0), _ints("none", 0)
    return {
        "one-pixel": picture_then("ReduceMean", axes=[2, 3], keepdims=1),
        "no-batch": picture_then("Slice", first, none, _ints("axis", 0)),
        "no-channels": picture_then("Slice", first, none, _ints("axis", 1)),
        "one-channel": picture_then("Slice", first, _ints("end", 1), _ints("axis", 1)),
        "six-channels": picture_then("Tile", _ints("times", 1, 2, 1, 1)),
        "two-pictures": picture_then("Tile", _ints("times", 2, 1, 1, 1)),
        "half-height": picture_then("MaxPool", kernel_shape=[2, 1], strides=[2, 1]),
        "half-size": picture_then("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
        "a-row-less": picture_then("Slice", _ints("start", 1), _ints("end", 1 << 30), _ints("axis", 2)),
        "rank-3": picture_then("Squeeze", first),
        "rank-5": picture_then("Unsqueeze", first),
        "nan": picture_then("Mul", nan),
        "infinite": picture_then("Add", infinite),
    }


def artifact(target: Path, model: bytes) -> Artifact:
    """An artifact of such a network, which says that it turns Bayer files into pictures."""
    return write_artifact(target, tiny.manifest(golden=None), {"model.onnx": model})
