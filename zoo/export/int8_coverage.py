"""What ONNX Runtime makes of an exported file: which layers it computes in int8 and which in float."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import IntegrityError
from zoo.extras import require
from zoo.machine.processors import multiplies_unsigned
from zoo.onnx.nested_graphs import every_node
from zoo.onnx.uint8 import prepare_for_onnxruntime

_INTEGER = frozenset(
    {
        "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
    }
)  # fmt: skip
_FLOAT = frozenset(
    {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "NhwcFusedConv"}
)

#: What ONNX Runtime appends to the names of nodes that it replaces.
_SUFFIX = re.compile(r"(_token_\d+|_nchwc)+$")


@dataclass(frozen=True)
class Int8Report:
    """Which layers ONNX Runtime computes in int8.

    Attributes:
        int8: Names of the layers computed in int8.
        float: Names of the layers computed in float.
        operators: How often each operator is in the graph.
    """

    int8: tuple[str, ...]
    float: tuple[str, ...]
    operators: dict[str, int]


def int8_report(data: bytes) -> Int8Report:
    """Load the file as zoo's ONNX Runtime engine does, and look at the graph that it optimised for this CPU.

    Raises:
        IntegrityError: ONNX Runtime refuses the file.
    """
    onnx = require("onnx", "Inspecting a file")
    runtime = require("onnxruntime", "Inspecting a file", extra="cpu")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimised.onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(path)
        try:
            runtime.InferenceSession(
                prepare_for_onnxruntime(data, unsigned=multiplies_unsigned()),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise IntegrityError(f"ONNX Runtime cannot load the file: {error}") from error
        graph = onnx.load(path).graph
    integer: list[str] = []
    floating: list[str] = []
    operators: dict[str, int] = {}
    for node in every_node(graph):
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
        if node.op_type in _INTEGER:
            integer.append(_SUFFIX.sub("", node.name))
        elif node.op_type in _FLOAT:
            floating.append(_SUFFIX.sub("", node.name))
    return Int8Report(tuple(integer), tuple(floating), operators)
