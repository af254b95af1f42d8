"""The machine's peak: the best rate at which its engine multiplies matrices, in float32 and in int8."""

from __future__ import annotations

import time
from typing import Any

from zoo.engines.onnx_bytes import FLOAT, INT8, UINT8, encode_node, encode_tensor
from zoo.engines.processors import usable_processors
from zoo.engines.protobuf import encode_bytes, encode_number
from zoo.optional import require

_SIDE = 1024
_RUNS = 12


def peak_gmacs(precision: str, threads: int = 0) -> float:
    """10^9 multiply-accumulates a second of ONNX Runtime's matrix product, the best of a dozen runs.

    precision: "int8" (unsigned by signed, as fast convolutions have it) or anything else for float32.
    """
    import numpy as np

    runtime: Any = require("onnxruntime", "Measuring the peak", extra="cpu")
    whole = precision == "int8"
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads if threads > 0 else usable_processors()
    options.log_severity_level = 4
    session = runtime.InferenceSession(_product(whole), options, providers=["CPUExecutionProvider"])
    inputs = {"a": np.ones((_SIDE, _SIDE), np.uint8 if whole else np.float32)}
    best = float("inf")
    for _ in range(_RUNS):
        started = time.perf_counter()
        session.run(None, inputs)
        best = min(best, time.perf_counter() - started)
    return float(_SIDE**3 / best / 1e9)


def _product(whole: bool) -> bytes:
    """A model of one matrix product with a constant."""
    import numpy as np

    kind = INT8 if whole else FLOAT
    constant = np.ones((_SIDE, _SIDE), np.int8 if whole else np.float32)
    graph = encode_node("MatMulInteger" if whole else "MatMul", ["a", "b"], "c")
    graph += encode_bytes(2, b"peak") + encode_tensor("b", kind, constant.shape, constant.tobytes())
    graph += encode_bytes(11, _value("a", UINT8 if whole else FLOAT))
    graph += encode_bytes(12, _value("c", 6 if whole else FLOAT))
    opset = encode_bytes(1, b"") + encode_number(2, 17)
    return encode_number(1, 8) + encode_bytes(7, graph) + encode_bytes(8, opset)


def _value(name: str, kind: int) -> bytes:
    """A ValueInfoProto of a square matrix."""
    side = encode_bytes(1, encode_number(1, _SIDE))
    tensor = encode_number(1, kind) + encode_bytes(2, side + side)
    return encode_bytes(1, name.encode()) + encode_bytes(2, encode_bytes(1, tensor))
