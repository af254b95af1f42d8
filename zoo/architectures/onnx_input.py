"""The input of the network in an ONNX file, as far as the file states it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from zoo.architectures.specs import PART_NAME, input_spec
from zoo.contracts import InputPart, InputSpec
from zoo.errors import InputError, UsageError
from zoo.onnx.graph import read_model

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.onnx.graph import ValueInfo

_KINDS = {1: "gray", 3: "rgb"}
#: What the types of an ONNX file are here: float32, and int32 and int64.
_TYPES = {1: "tensor", 6: "integer", 7: "integer"}
#: What stands for a side that the file leaves open, until the user states an example.
_OPEN = "CHW"


def file_input(data: bytes, said: str, path: Path) -> InputSpec:
    """Return the input as the file states it, with the example that the user states where it leaves sides open.

    Args:
        data: The bytes of the file.
        said: What the user states, as in "rgb:3x224x224"; "" for nothing.
        path: The file, for messages.

    Raises:
        InputError: An input is neither floats nor whole numbers, or has no shape.
        UsageError: A side is open and nothing is stated, or the file states something else.
    """
    graph = read_model(data)
    constants = {tensor.name for tensor in graph.initializers}
    inputs = [value for value in graph.inputs if value.name not in constants]
    dims = inputs[0].dims
    if len(inputs) > 1 or dims is None or len(dims) != 4:
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
                hint=f"State an example of it:  '{path}(input=rgb:3x224x224)' (or gray:1x..., packed-raw:4x...)",
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
    """Several inputs, or one that is no image, as the file states them."""
    if said:
        raise UsageError(
            f"The inputs of {path} are not one image, so the file itself must state what they are.",
            hint="Omit --input.",
        )
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
        shape = tuple(side or 0 for side in value.dims[1:])
        if not all(side > 0 for side in shape):
            raise UsageError(
                f"The input '{value.name}' of {path} leaves sizes open.",
                hint="State them in the file:  python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name "
                f"{value.name} --input_shape 1,... {path} FIXED.onnx",
            )
        image = kind == "tensor" and len(shape) == 3 and shape[0] in _KINDS
        parts.append(InputPart(value.name, cast(Any, _KINDS[shape[0]] if image else kind), shape))
    return InputSpec.of_parts(parts, fixed_size=True)
