"""ONNX files from outside: what is checked before an engine, which is a large C++ program, sees one.

A file that passes is well formed and whole in itself, computes with the operators of standard ONNX alone, holds the
data that its tensors claim, and takes and gives what the manifest says. How long it computes, and how much memory
its intermediate values take, is not known before it runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts.architecture import MOST_PARTS
from zoo.errors import IntegrityError
from zoo.onnx.fields import FLOAT
from zoo.onnx.graph import Graph, Tensor, ValueInfo, read_model
from zoo.onnx.integer_division import check_divisions
from zoo.onnx.operator_sets import NEWEST_OPSET, OLDEST_OPSET, operator_problem
from zoo.storage.atomic import read_bytes
from zoo.storage.result_cache import ResultCache

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import InputSpec, OutputSpec

#: Protobuf messages, and so ONNX files, are smaller than this.
LARGEST_MODEL = 2**31
_OLDEST_VERSION, _NEWEST_VERSION = 3, 14
#: Elements of a tensor, and of one whose shape a constant gives.
_MOST_ELEMENTS = 2**31
_MOST_OUTPUTS = 65
#: The types int32 and int64.
_INTEGERS = (6, 7)
#: Bits of an element of each type; those of text and complex numbers are no types of zoo's files.
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 17: 8, 18: 8,
    19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
#: Operators whose result has the size that an input says, and which input.
_SIZED_BY = {"CenterCropPad": 1, "ConstantOfShape": 0, "Expand": 1, "Pad": 1, "Resize": 3, "Tile": 1}

#: Digests of models that passed, with what they were held against.
_passed: set[tuple[str, InputSpec, tuple[object, ...]]] = set()
_PASSED = b"passed"


def load_checked_model(artifact: Artifact) -> bytes:
    """Return the verified model.onnx of an artifact, which may be handed to an engine.

    Raises:
        IntegrityError: The file is altered, or no engine may run it.
    """
    data = artifact.read("model.onnx", most=LARGEST_MODEL - 1)
    manifest = artifact.manifest
    # Reading compared the digest: what passed for these specs before passes again.
    stated = (manifest.output, *manifest.extra_outputs.items())
    subject = (manifest.files["model.onnx"].sha256, manifest.input, stated)
    if subject not in _passed:
        extras = {name: asdict(spec) for name, spec in manifest.extra_outputs.items()}
        specs = {"input": asdict(manifest.input), "output": asdict(manifest.output), "extra_outputs": extras}
        cache = ResultCache("checked", {"model": subject[0], **specs}, Path(__file__))
        if cache.read(len(_PASSED)) != _PASSED:
            check_onnx(data, manifest.input, manifest.output, manifest.extra_outputs)
            cache.write(_PASSED)
        _passed.add(subject)
    return data


def read_model_bytes(model: Path | bytes) -> bytes:
    """Return a model as bytes, unchecked.

    Raises:
        InputError: It cannot be read.
        IntegrityError: It is too large.
    """
    return model if isinstance(model, bytes) else read_bytes(model, LARGEST_MODEL, error=IntegrityError)


def check_onnx(
    data: bytes,
    takes: InputSpec | None = None,
    gives: OutputSpec | None = None,
    extras: Mapping[str, OutputSpec] | None = None,
) -> None:
    """Check that a model may be handed to an engine.

    Args:
        data: Bytes of the model.
        takes: Input that it must have.
        gives: Output that it must have, as its first.
        extras: The other outputs that it must have, by name, if `gives` is stated; None for none.

    Raises:
        IntegrityError: It may not.
    """
    if len(data) >= LARGEST_MODEL:
        raise IntegrityError(f"The model file is larger than the {LARGEST_MODEL:,} bytes ONNX allows.")
    graph = read_model(data)
    if not _OLDEST_VERSION <= graph.version <= _NEWEST_VERSION:
        raise IntegrityError(
            f"The model file is in ONNX format {graph.version}; "
            f"zoo reads {_OLDEST_VERSION} to {_NEWEST_VERSION}."
        )
    if not OLDEST_OPSET <= graph.opset <= NEWEST_OPSET:
        raise IntegrityError(
            f"The model file uses operator set {graph.opset}; zoo reads {OLDEST_OPSET} to {NEWEST_OPSET}."
        )
    _check_graph(graph, graph.opset, {})
    check_divisions(graph)
    constants = {tensor.name for tensor in graph.initializers}
    inputs = [value for value in graph.inputs if value.name not in constants]
    if not 1 <= len({value.name for value in inputs}) == len(inputs) <= MOST_PARTS:
        raise IntegrityError(
            f"The model file has {len(inputs)} inputs; zoo's files have one to {MOST_PARTS} with names of their own."
        )
    outputs = {value.name: value for value in graph.results}
    if not 1 <= len(outputs) == len(graph.results) <= _MOST_OUTPUTS:
        raise IntegrityError(
            f"The model file has {len(graph.results)} outputs; zoo's files have one to {_MOST_OUTPUTS} with names of "
            "their own."
        )
    if takes is not None:
        _check_inputs(inputs, takes)
    if gives is not None:
        _check_value(graph.results[0], "output", _expected(gives))
        stated = extras or {}
        if list(outputs)[1:] != list(stated):
            raise IntegrityError(
                f"The model file has {len(outputs)} outputs ({', '.join(map(ascii, list(outputs)[:10]))}); the "
                f"manifest states {1 + len(stated)}."
            )
        for name, spec in stated.items():
            _check_value(outputs[name], f"output '{name}'", _expected(spec))


def _check_graph(graph: Graph, opset: int, outer: dict[str, Tensor]) -> None:
    """The nodes and tensors of a graph and of those inside it; `outer` are the constants it sees."""
    own = {tensor.name: tensor for tensor in graph.initializers}
    if len(own) != len(graph.initializers):
        raise IntegrityError("The model file is damaged: two initializers share a name.")
    for tensor in graph.initializers:
        _check_tensor(tensor)
    constants = {**outer, **own}
    for node in graph.nodes:
        reason = operator_problem(node.operator, opset)
        if reason:
            raise IntegrityError(f"The model file uses the operator {node.operator[:60]!a}: {reason}.")
        for tensor in node.tensors:
            _check_tensor(tensor)
        if node.operator == "Constant" and node.tensors and node.outputs:
            constants[node.outputs[0]] = node.tensors[0]
        if node.graphs and node.operator != "If":
            raise IntegrityError(
                f"The model file has a graph inside {node.operator[:60]!a}, where none is allowed."
            )
        for inner in node.graphs:
            _check_graph(inner, opset, constants)
        place = _SIZED_BY.get(node.operator)
        if place is not None and place < len(node.inputs) and node.inputs[place] in constants:
            _check_size(constants[node.inputs[place]].int64_values(), node.operator)


def _check_size(sides: list[int], operator: str) -> None:
    if math.prod(max(1, abs(side)) for side in sides) > _MOST_ELEMENTS:
        raise IntegrityError(f"The model file has a {operator} to more than {_MOST_ELEMENTS:,} elements.")


def _check_tensor(tensor: Tensor) -> None:
    """Its data must have the size that its type and its shape say."""
    name = f"the tensor {tensor.name[:60]!a}"
    bits = _BITS.get(tensor.type)
    if bits is None:
        raise IntegrityError(f"The model file is refused: {name} is of the type {tensor.type}.")
    count = math.prod(tensor.dims)
    if count > _MOST_ELEMENTS:
        raise IntegrityError(f"The model file is refused: {name} has {count:,} elements.")
    stored = -(-count * bits // 8)  # small integers share bytes
    if tensor.content is not None:
        fits = tensor.content.end - tensor.content.begin == stored and not tensor.listed
    else:
        # Of small integers each listed number holds a byte.
        fits = tensor.listed == (stored if bits < 8 else count)
    if not fits:
        raise IntegrityError(f"The model file is damaged: the data of {name} does not match its shape.")


def _check_inputs(inputs: list[ValueInfo], takes: InputSpec) -> None:
    """Hold the inputs of a file against what the manifest states."""
    stated = [part.name for part in takes.parts]
    names = [value.name for value in inputs]
    if names != stated if stated else len(names) != 1:
        raise IntegrityError(
            f"The model file has {len(names)} inputs ({', '.join(map(ascii, names[:10]))}); the manifest states "
            f"{', '.join(stated) or 'one'}."
        )
    if not stated:
        sides: list[int | None] = list(takes.example) if takes.fixed_size else [None, None]
        _check_value(inputs[0], "input", [None, takes.channels, *sides])
    free = takes.packing.planes and not takes.fixed_size
    for value, part in zip(inputs, takes.parts, strict=False):
        shape = [*part.shape[:-2], None, None] if free and part.has_sides else part.shape
        kinds = (FLOAT, *_INTEGERS) if part.kind == "integer" else (FLOAT,)
        _check_value(value, f"input '{part.name}'", [None, *shape], kinds)


def _expected(gives: OutputSpec) -> list[int | None] | None:
    """The shape of an output, None for a side that may vary; None for a tensor of any shape."""
    if gives.kind == "tensor":
        return None
    if gives.kind == "boxes":
        return [None, None, 6]
    return [None, gives.channels, *([None, None] if gives.dense else [])]


def _check_value(
    value: ValueInfo, what: str, expected: list[int | None] | None, kinds: tuple[int, ...] = (FLOAT,)
) -> None:
    """A tensor, usually float32, of as many axes as expected; sides that both state must agree."""
    if expected is None:
        expected = [None] * len(value.dims or ())
    dims = value.dims
    fits = value.kind in kinds and dims is not None and len(dims) == len(expected)
    if fits and dims is not None:
        fits = all(
            None in (side, wanted) or side == wanted for side, wanted in zip(dims, expected, strict=True)
        )
    if not fits:
        raise IntegrityError(
            f"The {what} of the model file is {_shape(dims)} (type {value.kind}), "
            f"not the float32 {_shape(expected)} that the manifest states."
        )


def _shape(dims: list[int | None] | None) -> str:
    if dims is None:
        return "any shape"
    return "(" + ", ".join("?" if side is None else str(side) for side in dims[:10]) + ")"
