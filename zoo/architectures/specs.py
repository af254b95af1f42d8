"""The input and output of a network as short texts: ``rgb:3x256x256``, ``mask:1``, ``rgb:3x2``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, cast

from zoo.contracts import InputPart, InputSpec, OutputSpec
from zoo.contracts.architecture import MOST_PARTS, OutputKind
from zoo.errors import UsageError

_INPUT = re.compile(r"(packed-raw|rgb|gray):(\d{1,2})x(\d{1,5})x(\d{1,5})", re.ASCII)
_RANGE = r"(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)"
_PART = re.compile(
    rf"(rgb|gray|tensor|integer)(?::(\d{{1,5}}(?:x\d{{1,5}}){{0,7}}))?(?::{_RANGE})?", re.ASCII
)
#: Names of inputs.
PART_NAME = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)
_OUTPUT = re.compile(r"(rgb|gray|mask|classes|logits|boxes|tensor):(\d{1,7})(?:x(\d{1,2}))?", re.ASCII)
#: Axes of an image without the batch dimension.
_IMAGE_AXES = 3
_OUTPUT_CHANNELS = {"rgb": 3, "gray": 1}
_CHANNELS = {"rgb": (3,), "gray": (1,), "packed-raw": (4, 9)}


def input_spec(stated: Any, where: str) -> InputSpec:
    """Parse ``KIND:CxHxW``; return an InputSpec unchanged.

    Packed RAW with 4 channels is Bayer, with 9 X-Trans. Several inputs are a dictionary of texts by name; see
    :func:`input_part`.

    Raises:
        UsageError: The text is malformed; the error names `where`.
    """
    if isinstance(stated, InputSpec):
        return stated
    if isinstance(stated, Mapping):
        if not stated or len(stated) > MOST_PARTS:
            raise UsageError(f"{where} states {len(stated)} inputs, not 1 to {MOST_PARTS}.")
        return InputSpec.of_parts([input_part(str(name), each, where) for name, each in stated.items()])
    match = _INPUT.fullmatch(str(stated).strip())
    if match is None:
        raise UsageError(
            f"{where} is '{stated}', not KIND:CHANNELSxHEIGHTxWIDTH.",
            hint="For example:  rgb:3x256x256, gray:1x512x512 or packed-raw:4x256x256",
        )
    kind = cast('Literal["packed-raw", "rgb", "gray"]', match[1])
    channels, height, width = (int(each) for each in match.groups()[1:])
    if channels not in _CHANNELS[kind] or not (height and width):
        wanted = " or ".join(map(str, _CHANNELS[kind]))
        raise UsageError(
            f"{where} is '{stated}': {kind} has {wanted} channels, and sides of at least 1 pixel."
        )
    mosaics: dict[int, Literal["bayer", "xtrans"]] = {4: "bayer", 9: "xtrans"}
    raw = kind == "packed-raw"
    mosaic = mosaics[channels] if raw else None
    return InputSpec(kind, channels, example=(height, width), mosaic=mosaic, white_balance=raw)


def input_part(name: str, stated: Any, where: str) -> InputPart:
    """Parse ``KIND:SHAPE`` or ``KIND:SHAPE:LEAST..GREATEST``, one of several inputs; return an InputPart unchanged.

    The kind is rgb, gray, tensor or integer. The shape is without the batch dimension, and absent for one number per
    sample: ``rgb:3x256x256``, ``tensor:16``, ``integer:1..16``. The range is what examples are made of, by default 0
    to 1.

    Raises:
        UsageError: The text is malformed; the error names `where`.
    """
    if isinstance(stated, InputPart):
        return stated
    match = _PART.fullmatch(str(stated).strip())
    shape = tuple(int(each) for each in (match[2] or "").split("x") if each) if match else ()
    channels = _OUTPUT_CHANNELS.get(match[1]) if match else None
    fits = all(shape) and (channels is None or (len(shape) == _IMAGE_AXES and shape[0] == channels))
    if match is None or not fits or not PART_NAME.fullmatch(name) or name == "output":
        raise UsageError(
            f"{where} states the input {name!r} as '{stated}', which is not KIND:SHAPE or KIND:SHAPE:LEAST..GREATEST.",
            hint="For example:  rgb:3x256x256, tensor:16, integer:1..16; a name is that of a variable, and not "
            "'output'",
        )
    low, high = float(match[3] or 0), float(match[4] or 1)
    if low > high:
        raise UsageError(
            f"{where} states the input {name!r} from {low:g} to {high:g}.", hint="Put the least first."
        )
    return InputPart(name, cast(Any, match[1]), shape, low, high)


def output_spec(stated: Any, where: str) -> OutputSpec:
    """Parse ``KIND:CHANNELS`` or, for images and masks larger than the input, ``KIND:CHANNELSxSCALE``.

    An OutputSpec is returned unchanged.

    Raises:
        UsageError: The text is malformed; the error names `where`.
    """
    if isinstance(stated, OutputSpec):
        if stated.dense and stated.scale < 1:
            raise UsageError(
                f"{where} is {stated.kind} with the scale {stated.scale}; images and masks have at least 1.",
                hint=f'State it:  OutputSpec("{stated.kind}", {stated.channels}, 1)',
            )
        return stated
    match = _OUTPUT.fullmatch(str(stated).strip())
    if match is None:
        raise UsageError(
            f"{where} is '{stated}', not KIND:CHANNELS.",
            hint="For example:  mask:1, classes:21, logits:10, boxes:80, or rgb:3x2 for an image of twice the size",
        )
    kind = cast("OutputKind", match[1])
    dense = OutputSpec(kind, 1).dense
    channels, scale = int(match[2]), int(match[3] or dense)
    if channels != _OUTPUT_CHANNELS.get(kind, channels) or not channels or dense != (scale > 0):
        raise UsageError(
            f"{where} is '{stated}': rgb has 3 channels, gray has 1, and logits have no size, "
            "as boxes and tensors have none."
        )
    return OutputSpec(kind, channels, scale)
