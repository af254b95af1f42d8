"""What one run of a network takes: multiply-accumulates, and bytes read and written.

Both are counted in the graph that ONNX Runtime makes of the file, by one run of its profiler: sizes in the file need
not be known, and neither `onnx` nor torch is needed.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from zoo.engines.feeds import feeds_of
from zoo.errors import IntegrityError
from zoo.extras import require
from zoo.machine.processors import multiplies_unsigned
from zoo.onnx.uint8 import prepare_for_onnxruntime

#: Operators that give another view of the same bytes.
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
#: Where the weight is among the inputs of an operator that multiplies and accumulates for each output value.
_WEIGHTS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = frozenset(
    {
        "DynamicQuantizeMatMul", "FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MatMulInteger",
        "MatMulIntegerToFloat", "QGemm", "QLinearMatMul",
    }
)  # fmt: skip


@dataclass(frozen=True)
class OpCounts:
    """The work of one run.

    Each operator of the fused graph reads its inputs, weights included, and writes its outputs once.

    Attributes:
        macs: Multiply-accumulates of convolutions and matrix products.
        bytes: Read and written by all operators.
    """

    macs: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Return the multiply-accumulates for each byte moved."""
        return self.macs / self.bytes


@dataclass(frozen=True)
class OperatorRun:
    """One operator of the fused graph, as it ran.

    Attributes:
        kind: The operator; convolutions are told apart by what bounds them: 1x1, depthwise and others.
        macs: Multiply-accumulates.
        bytes: Read and written; 0 for another view of the same bytes.
        milliseconds: Median of its runs.
    """

    kind: str
    macs: int
    bytes: int
    milliseconds: float


def count_operations(model: bytes, shape: Sequence[int]) -> OpCounts:
    """Count the work of one run.

    Args:
        model: Bytes of the ONNX file.
        shape: (N, C, H, W) of the input.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        IntegrityError: ONNX Runtime refuses the file or the shape.
    """
    operators = run_operators(model, shape)
    return OpCounts(sum(each.macs for each in operators), sum(each.bytes for each in operators))


def run_operators(
    model: bytes, shape: Sequence[int], *, runs: int = 1, threads: int = 0
) -> tuple[OperatorRun, ...]:
    """Run a file under the profiler and return its operators in order of execution.

    Args:
        model: Bytes of the ONNX file.
        shape: (N, C, H, W) of the input.
        runs: How often; the first of several is not timed.
        threads: Of the engine; 0 for what ONNX Runtime takes.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        IntegrityError: ONNX Runtime refuses the file or the shape.
    """
    seen: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for event in _events(model, shape, runs, threads):
        seen.setdefault((event["name"], str(event["args"].get("node_index"))), []).append(event)
    found = []
    for events in seen.values():
        node = events[0]["args"]
        inputs, outputs = _shapes(node["input_type_shape"]), _shapes(node["output_type_shape"])
        operator = str(node["op_name"])
        sizes = (int(node[part]) for part in ("activation_size", "parameter_size", "output_size"))
        moved = 0 if operator in _VIEWS else sum(sizes)
        timed = statistics.median(each["dur"] for each in events[1:] or events) / 1000
        kind = operator + _bound(operator, inputs)
        found.append(OperatorRun(kind, _macs(operator, inputs, outputs), moved, timed))
    return tuple(found)


def _events(model: bytes, shape: Sequence[int], runs: int, threads: int) -> Iterator[Mapping[str, Any]]:
    """Yield the profiler's record of each time that an operator ran."""
    import numpy as np

    runtime: Any = require("onnxruntime", "Counting what a run takes", extra="cpu")
    with tempfile.TemporaryDirectory() as folder:
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.enable_profiling = True
        options.intra_op_num_threads = threads
        options.profile_file_prefix = str(Path(folder, "work"))
        # Operators are fused, but sizes stay those of the file: blocked layouts and packed weights have others.
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            session = runtime.InferenceSession(
                prepare_for_onnxruntime(model, unsigned=multiplies_unsigned()),
                options,
                providers=["CPUExecutionProvider"],
            )
            named = feeds_of(session.get_inputs(), np.ones(shape, np.float32))
            for _ in range(runs):
                session.run(None, named)
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise IntegrityError(f"ONNX Runtime cannot run the model on {tuple(shape)}: {error}") from error
        events = json.loads(Path(session.end_profiling()).read_bytes())
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            yield event


def _bound(operator: str, inputs: Sequence[Sequence[int]]) -> str:
    """Return what tells convolutions apart that reach different shares of a processor's peak."""
    weight = inputs[_WEIGHTS[operator]] if operator in _WEIGHTS else ()
    if len(weight) < 3:
        return ""
    if weight[1] == 1 < weight[0]:
        return " depthwise"
    return " 1x1" if prod(weight[2:]) == 1 else ""


def _shapes(tensors: Sequence[Mapping[str, Sequence[int]]]) -> list[Sequence[int]]:
    """Return the sizes of tensors that are given as [{"uint8": [1, 4, 64, 64]}, ...]."""
    return [size for tensor in tensors for size in tensor.values()]


def _macs(operator: str, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> int:
    if operator in _WEIGHTS:
        return prod(outputs[0]) * prod(inputs[_WEIGHTS[operator]][1:])
    if operator == "ConvTranspose":
        return prod(inputs[0]) * prod(inputs[1][1:])
    if operator in _PRODUCTS:  # (..., M, K) by (K, N), whichever way the first lies in memory
        return prod(inputs[0]) * outputs[0][-1]
    return 0
