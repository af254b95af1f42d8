"""Why ONNX Runtime does not load or run a file that torch exported, with the place in the network."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.errors import ExportError, IntegrityError, ZooError
from zoo.export.weighted_operators import WEIGHTED
from zoo.extras import require

if TYPE_CHECKING:
    import onnx

_NODE = re.compile(r"[Nn]ame:? ?'([^']*)'")
_IN_FLOAT64 = (
    "ONNX Runtime has few operators for float64: compute in float32 there, x.float() in place of x.double()."
)
_OTHERWISE = (
    "torch exports it in a form that does not run: compute it otherwise there, with other operators of torch."
)


@contextlib.contextmanager
def blaming_export(name: str, exported: bytes) -> Iterator[None]:
    """Raise what the engine says of a file that has just been exported as an error of the export.

    Nothing of the user's is damaged, as the engine believes of any file that it does not load.

    Args:
        name: id of the architecture.
        exported: The bytes of model.onnx.

    Raises:
        ExportError: The engine refuses the file, or fails on an input.
    """
    try:
        yield
    except ZooError as error:
        if type(error) not in (ZooError, IntegrityError):
            raise
        raise _refusal(name, exported, error) from error


def _refusal(name: str, exported: bytes, error: ZooError) -> ExportError:
    onnx = require("onnx", "Exporting")
    graph = onnx.load_model_from_string(exported).graph
    named = _NODE.search(error.message)
    node = next((each for each in graph.node if named and each.name == named[1]), None)
    place = f" ({_place(graph, node)})" if node is not None else ""
    to_double = any(
        node.op_type == "Cast" and attribute.i == onnx.TensorProto.DOUBLE
        for node in graph.node
        for attribute in node.attribute
    )
    return ExportError(
        f"What torch exports of {name} does not run{place}: {error.message}",
        hint=_IN_FLOAT64 if to_double and "NOT_IMPLEMENTED" in error.message else _OTHERWISE,
        reason=error.message,
    )


def _place(graph: onnx.GraphProto, node: onnx.NodeProto) -> str:
    """An operator of a file in words, with the layer of the network that it is or comes after."""
    if node.op_type in WEIGHTED and node.name.rpartition(".")[0]:
        return f"'{node.name}'"
    producer = {name: each for each in graph.node for name in each.output}
    waiting, seen = list(node.input), set()
    while waiting:
        source = producer.get(waiting.pop(0))
        if source is None or source.name in seen:
            continue
        seen.add(source.name)
        if source.op_type in WEIGHTED:
            return f"{node.op_type} behind '{source.name}'"
        waiting += source.input
    return str(node.op_type)
