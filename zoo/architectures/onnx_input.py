"""The input of the network in an ONNX file, as far as the file states it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from zoo.architectures.onnx_interface import is_image
from zoo.architectures.specs import PART_NAME, input_part, input_spec
from zoo.contracts import InputPart, InputSpec
from zoo.errors import InputError, UsageError
from zoo.onnx import fields
from zoo.onnx.encoding import encode_value_info, replace
from zoo.onnx.graph import read_model
from zoo.onnx.protobuf import Reader, encode_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.onnx.graph import ValueInfo

_KINDS = {1: "gray", 3: "rgb"}
#: What the types of an ONNX file are here: float32, and int32 and int64.
_TYPES = {1: "tensor", 6: "integer", 7: "integer"}
#: What stands for a side that the file leaves open, until the user states an example.
_OPEN = "CHW"
_EXAMPLE_SIDE = 64


def file_input(data: bytes, said: str, path: Path) -> InputSpec:
    """Return the input as the file states it, with the example that the user states where it leaves sides open.

    Args:
        data: The bytes of the file.
        said: What the user states, as in "rgb:3x224x224", or "left=rgb:3x224x224,level=tensor:2" of inputs that are
            not one image; "" for nothing.
        path: The file, for messages.

    Raises:
        InputError: An input is neither floats nor whole numbers, or has no shape.
        UsageError: A side is open and nothing is stated, or the file states something else.
    """
    graph = read_model(data)
    constants = {tensor.name for tensor in graph.initializers}
    inputs = [value for value in graph.inputs if value.name not in constants]
    dims = inputs[0].dims
    if len(inputs) > 1 or dims is None or not is_image(dims) or said.startswith(("tensor", "integer")):
        return _parts(inputs, said, path)
    _, channels, height, width = (side if side and side > 0 else None for side in dims)
    stated = input_spec(said, f"The input of {path}") if said else None
    if stated is None:
        if channels not in _KINDS or height is None or width is None:
            shape = "x".join(
                str(side or name) for side, name in zip((channels, height, width), _OPEN, strict=True)
            )
            raise UsageError(
                f"The input of {path} is {shape}, which leaves open what it is.",
                hint=f"State an example of it:  '{path}(input=rgb:3x224x224)' (or gray:1x..., packed-raw:4x..., "
                "tensor:4x...)",
            )
        stated = input_spec(f"{_KINDS[channels]}:{channels}x{height}x{width}", f"The input of {path}")
    given = (stated.channels, *stated.example)
    if any(side not in (None, said) for side, said in zip((channels, height, width), given, strict=True)):
        shape = "x".join(
            str(side or name) for side, name in zip((channels, height, width), _OPEN, strict=True)
        )
        raise UsageError(
            f"The input of {path} is {shape}, not {'x'.join(map(str, given))}.", hint="Correct --input."
        )
    fixed = height is not None or width is not None
    return dataclasses.replace(stated, fixed_size=True) if fixed else stated


def _parts(inputs: Sequence[ValueInfo], said: str, path: Path) -> InputSpec:
    """Several inputs, or one that is no image, as the file states them, and the user where it leaves sides open."""
    stated = _stated_parts([value.name for value in inputs], said, path)
    parts: list[InputPart] = []
    for value in inputs:
        kind = _TYPES.get(value.kind or 0)
        if kind is None or not value.dims:
            raise InputError(
                f"The input '{value.name}' of {path} is neither an array of float32 nor of whole numbers.",
                hint="Convert its type inside the network.",
            )
        if not PART_NAME.fullmatch(value.name) or value.name == "output":
            raise InputError(
                f"The input '{ascii(value.name)[1:-1]}' of {path} has a name that artifacts cannot hold.",
                hint="Rename it: letters, digits and underscores, and not 'output'.",
            )
        sides = _sides(value)
        part = stated.get(value.name)
        if part is not None:
            _check_stated(part, kind, sides, path)
        elif None in sides:
            raise UsageError(
                f"The input '{value.name}' of {path} is {_shown(sides)}, which leaves sizes open.",
                hint=f"State an example of each such input:  --input '{_example(inputs)}', or behind the name:  "
                f"'{path}(input=\"{_example(inputs)}\")'",
            )
        else:
            shape = tuple(side or 0 for side in sides)
            image = kind == "tensor" and len(shape) == 3 and shape[0] in _KINDS
            part = InputPart(value.name, cast(Any, _KINDS[shape[0]] if image else kind), shape)
        parts.append(part)
    return InputSpec.of_parts(parts, fixed_size=True)


def with_stated_sizes(data: bytes, spec: InputSpec) -> bytes:
    """Return a file whose inputs have the sizes that are stated of them, where it leaves sizes open.

    Args:
        data: The bytes of the file.
        spec: What :func:`file_input` returned for it.
    """
    if not spec.parts:
        return data
    graph = read_model(data)
    shapes = {part.name: [None, *part.shape] for part in spec.parts}
    places = [part for part in Reader(data).message(graph.place) if part.key == fields.GRAPH_INPUT]
    edits = {
        place: encode_bytes(fields.GRAPH_INPUT, encode_value_info(dataclasses.replace(value, dims=dims)))
        for place, value in zip(places, graph.inputs, strict=True)
        if (dims := shapes.get(value.name)) is not None and None in _sides(value)
    }
    return replace(data, graph, edits) if edits else data


def _stated_parts(names: Sequence[str], said: str, path: Path) -> dict[str, InputPart]:
    """What the user states of inputs: NAME=KIND:SHAPE, several with commas between; a lone one needs no name."""
    where = f"The input of {path}"
    found = {}
    for text in filter(None, (each.strip() for each in said.split(","))):
        name, given, stated = text.partition("=")
        name, stated = (name.strip(), stated.strip()) if given else (names[0], text)
        if name not in names or (not given and len(names) > 1):
            raise UsageError(
                f"{where} is stated as '{text}'; its inputs are {', '.join(names)}.",
                hint="State each as NAME=KIND:SHAPE, as in  left=rgb:3x224x224,level=tensor:2",
            )
        found[name] = input_part(name, stated, where)
    return found


def _check_stated(part: InputPart, kind: str, sides: Sequence[int | None], path: Path) -> None:
    fits = len(part.shape) == len(sides) and all(
        side in (None, given) for side, given in zip(sides, part.shape, strict=True)
    )
    if not fits or (kind == "integer") != (part.kind == "integer"):
        raise UsageError(
            f"The input '{part.name}' of {path} is {kind} {_shown(sides)}, not {part.kind} {_shown(part.shape)}.",
            hint="Correct --input.",
        )


def _example(inputs: Sequence[ValueInfo]) -> str:
    """Return how sizes that a file leaves open may be stated."""
    texts = []
    for value in inputs:
        sides = _sides(value)
        if None in sides:
            shape = "x".join(str(side or _EXAMPLE_SIDE) for side in sides)
            texts.append(f"{value.name}={_TYPES.get(value.kind or 0, 'tensor')}:{shape}")
    return ",".join(texts)


def _sides(value: ValueInfo) -> list[int | None]:
    """Sides without that of the batch, None where the file leaves one open; some exporters write -1 there."""
    return [side if side and side > 0 else None for side in (value.dims or [])[1:]]


def _shown(sides: Sequence[int | None]) -> str:
    return "x".join("?" if side is None else str(side) for side in sides) or "one number"
