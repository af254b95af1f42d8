"""The input of the network in an ONNX file, as far as the file states it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from zoo.architectures.specs import input_spec
from zoo.errors import InputError, UsageError
from zoo.onnx.graph import read_model

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.contracts import InputSpec

_KINDS = {1: "gray", 3: "rgb"}
#: What stands for a side that the file leaves open, until the user states an example.
_OPEN = "CHW"


def file_input(data: bytes, said: str, path: Path) -> InputSpec:
    """Return the input as the file states it, with the example that the user states where it leaves sides open.

    Args:
        data: The bytes of the file.
        said: What the user states, as in "rgb:3x224x224"; "" for nothing.
        path: The file, for messages.

    Raises:
        InputError: The network does not take images.
        UsageError: A side is open and nothing is stated, or the file states something else.
    """
    graph = read_model(data)
    constants = {tensor.name for tensor in graph.initializers}
    dims = next(value.dims for value in graph.inputs if value.name not in constants)
    if dims is None or len(dims) != 4:
        shown = "any shape" if dims is None else f"{len(dims)} axes"
        raise InputError(
            f"The input of {path} has {shown}; networks of images have 4: (N, channels, height, width)."
        )
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
