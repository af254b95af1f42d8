"""Why torch does not export a network, with the place in the network's code."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ExportError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_NO_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='\w+\.(\w+)'")
_AT_NODE = re.compile(r"for node '(?:node_)?(\w+)' \(::(\w+)\)")
_PLACE = re.compile(r'File "([^"<]+)", line (\d+)')
#: Code that is not the network's own.
_LIBRARIES = (str(Path(__file__).parents[1]), "site-packages")
_ONE_WAY = (
    "A file has one way for all inputs: write `if` as torch.where(condition, a, b), which computes both, and keep "
    "numbers in tensors instead of using .item(), int() or float()."
)
_IN_PLACE = "Write it without changing the tensor in place: y = x * 2 instead of x.mul_(2)."
_NO_DATA = "Write x.detach() in place of x.data, or leave it out: a file is for inference alone."
_ONE_SIZE = (
    "State that only inputs of the example's size are accepted, as in  ./net.py:make(fixed_size=true),  or, in Python, "
    "fixed_size=True; or write that code without Python's if, int() and loops over sizes."
)
_OTHERWISE = "Compute it otherwise there, with other operators of torch."


def refusal(name: str, error: BaseException, graph: ExportedProgram | None) -> ExportError:
    """Return what to raise for an error of the exporter.

    Args:
        name: id of the architecture.
        error: What torch raised.
        graph: What torch.export made of the network, if it came so far.
    """
    causes = list(_causes(error))
    reason = reason_of(error)
    missing = _NO_OPERATOR.search(reason)
    traces = [*map(str, causes), "".join(traceback.format_tb(causes[-1].__traceback__))]
    hint = _ONE_WAY if "data-dependent" in reason else _OTHERWISE
    if "goes another way for an input of this size" in reason:
        hint = _ONE_SIZE
    if missing:
        reason = f"ONNX has no operator for torch's {missing[1]}"
        traces += _traces_of(missing[1], graph)
    elif "entirely functional graph" in reason:
        reason, hint = "it changes part of a tensor in place, in a way that no graph has", _IN_PLACE
    elif node := next(filter(None, (_AT_NODE.search(str(cause)) for cause in causes)), None):
        reason = f"its operator {node[2]} is not understood by torch's own exporter ({reason})"
        traces += _traces_of(node[1], graph)
    elif "Constraints violated" in reason:
        reason = "one of its operators is exported for the example's size or number of images alone"
    elif "fake tensor in the exported program constant" in reason:
        reason, hint = "it reads the .data of a tensor, which no graph can follow", _NO_DATA
    place = _place(traces)
    return ExportError(
        f"torch cannot export {name} to ONNX{f' ({place})' if place else ''}: {reason}",
        hint=hint,
        reason=reason,
    )


def reason_of(error: BaseException) -> str:
    """Return the first line of the innermost error."""
    *_, innermost = _causes(error)
    text = str(innermost).strip()
    return text.splitlines()[0] if text else type(innermost).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it, innermost last: around it torch wraps advice for its own developers."""
    while error is not None:
        yield error
        error = error.__cause__


def _traces_of(operator: str, graph: ExportedProgram | None) -> list[str]:
    """Return where the network's code calls an operator, or makes a value of that name."""
    nodes: list[Any] = [] if graph is None else list(graph.graph.nodes)
    return [
        str(node.meta.get("stack_trace", ""))
        for node in nodes
        if operator in (node.name, getattr(node.target, "__name__", "").partition(".")[0])
    ]


def _place(traces: list[str]) -> str:
    """Return the innermost line of the network's own code that a trace names, as "file.py, line 12"."""
    for trace in traces:
        own = [each for each in _PLACE.findall(trace) if not any(part in each[0] for part in _LIBRARIES)]
        if own:
            return f"{Path(own[-1][0]).name}, line {own[-1][1]}"
    return ""
