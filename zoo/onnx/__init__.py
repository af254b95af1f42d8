"""ONNX files without the onnx package: reading, checking and rewriting them in place."""

from __future__ import annotations

from zoo.onnx.check import check_onnx, load_checked_model, read_model_bytes
from zoo.onnx.dequantize import to_float
from zoo.onnx.graph import Graph, Node, Tensor, ValueInfo, read_model
from zoo.onnx.packed_weights import unpack_int4
from zoo.onnx.symmetric import to_symmetric
from zoo.onnx.uint8 import prepare_for_onnxruntime, to_unsigned
from zoo.onnx.working_set import WorkingSet, artifact_working_set, measure_working_set

__all__ = [
    "Graph",
    "Node",
    "Tensor",
    "ValueInfo",
    "WorkingSet",
    "artifact_working_set",
    "check_onnx",
    "load_checked_model",
    "measure_working_set",
    "prepare_for_onnxruntime",
    "read_model",
    "read_model_bytes",
    "to_float",
    "to_symmetric",
    "to_unsigned",
    "unpack_int4",
]
