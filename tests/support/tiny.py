"""Small real artifacts for tests: ONNX networks made with the onnx package, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import onnx
from onnx import TensorProto, helper, numpy_helper
from zoo.artifacts import Artifact, GoldenCheck, Manifest, write_artifact
from zoo.artifacts.golden import GOLDEN_NAME, golden_bytes
from zoo.contracts import InputSpec, OutputSpec

FINGERPRINT = "sha256:" + "0123456789abcdef" * 4
BAYER = InputSpec(
    "packed-raw", 4, multiple_of=2, example=(32, 32), mosaic="bayer", white_balance=True, halo=10
)
XTRANS = InputSpec(
    "packed-raw", 9, multiple_of=2, example=(32, 32), mosaic="xtrans", white_balance=True, halo=10
)


def small_unet(channels: int = 4, scale: int = 2, seed: int = 0) -> bytes:
    """A U-Net with one pooling, five convolutions and a clip.

    (N, channels, H, W) -> (N, 3, scale*H, scale*W); an output depends on 10 input pixels to each side.
    """
    rng = np.random.default_rng(seed)
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def conv(source: str, name: str, i: int, o: int, k: int, kind: str = "Conv", **attributes: Any) -> str:
        shape = (i, o, k, k) if kind == "ConvTranspose" else (o, i, k, k)
        values = rng.normal(0, 0.7 / np.sqrt(i * k * k), shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"{name}.weight"))
        nodes.append(helper.make_node(kind, [source, f"{name}.weight"], [name], name=name, **attributes))
        nodes.append(helper.make_node("LeakyRelu", [name], [f"{name}.act"], alpha=0.2))
        return f"{name}.act"

    same = {"pads": [1, 1, 1, 1]}
    skip = conv(conv("input", "a", channels, 8, 3, **same), "b", 8, 8, 3, **same)
    nodes.append(helper.make_node("MaxPool", [skip], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]))
    deep = conv(conv("pooled", "c", 8, 8, 3, **same), "up", 8, 8, 2, "ConvTranspose", strides=[2, 2])
    nodes.append(helper.make_node("Concat", [deep, skip], ["joined"], axis=1))
    head = conv("joined", "head", 16, 3 * scale * scale, 3, **same)
    nodes.append(helper.make_node("DepthToSpace", [head], ["picture"], blocksize=scale, mode="CRD"))
    weights.append(numpy_helper.from_array(np.float32(0), "zero"))
    weights.append(numpy_helper.from_array(np.float32(1), "one"))
    nodes.append(helper.make_node("Clip", ["picture", "zero", "one"], ["output"]))
    sides = ["N", channels, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3, "H2", "W2"])],
        weights,
    )
    return _finished(graph)


def small_classifier(classes: int = 10) -> bytes:
    """Global mean of each channel, then a matrix: (N, 3, H, W) -> (N, classes)."""
    rng = np.random.default_rng(1)
    matrix = numpy_helper.from_array(rng.normal(size=(3, classes)).astype(np.float32), "matrix")
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", classes])],
        [matrix],
    )
    return _finished(graph)


def _finished(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def run(model: bytes, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The output of a network for (N, C, H, W), by ONNX's own reference implementation."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, {"input": inputs})[0]


def manifest(**changes: Any) -> Manifest:
    """A manifest of the small U-Net, without its list of files."""
    values: dict[str, Any] = {
        "architecture": "tiny",
        "recipe": "qat(bits=8)",
        "fingerprint": FINGERPRINT,
        "input": BAYER,
        "output": OutputSpec("rgb", 3, 2),
        "golden": GoldenCheck(GOLDEN_NAME, 50.0),
        "created_with": {"zoo": "0.1.0"},
    }
    return Manifest(**{**values, **changes})


def bayer_artifact(target: Path, **changes: Any) -> Artifact:
    """An artifact of the small U-Net for Bayer files, with a golden check."""
    model = small_unet()
    inputs = np.random.default_rng(2).random((1, 4, 32, 48), dtype=np.float32)
    contents = {
        "model.onnx": model,
        GOLDEN_NAME: golden_bytes([(inputs, run(model, inputs))]),
        "README.md": b"# tiny\n",
    }
    return write_artifact(target, manifest(**changes), contents)


def xtrans_artifact(target: Path) -> Artifact:
    """An artifact for X-Trans files, without a golden check."""
    described = manifest(input=XTRANS, output=OutputSpec("rgb", 3, 3), golden=None)
    return write_artifact(target, described, {"model.onnx": small_unet(9, 3)})


def classifier_artifact(target: Path) -> Artifact:
    """A classifier of RGB pictures with ten classes."""
    spec = InputSpec("rgb", 3, example=(64, 64), fixed_size=True)
    described = manifest(input=spec, output=OutputSpec("logits", 10), golden=None)
    return write_artifact(target, described, {"model.onnx": small_classifier()})
