"""The input and output of a network as short texts: ``rgb:3x256x256``, ``mask:1``, ``rgb:3x2``."""

from __future__ import annotations

import re
from typing import Any, Literal, cast

from zoo.contracts import InputSpec, OutputSpec
from zoo.contracts.architecture import OutputKind
from zoo.errors import UsageError

_INPUT = re.compile(r"(packed-raw|rgb|gray):(\d{1,2})x(\d{1,5})x(\d{1,5})", re.ASCII)
_OUTPUT = re.compile(r"(rgb|gray|mask|classes|logits|boxes|tensor):(\d{1,7})(?:x(\d{1,2}))?", re.ASCII)
_OUTPUT_CHANNELS = {"rgb": 3, "gray": 1}
_CHANNELS = {"rgb": (3,), "gray": (1,), "packed-raw": (4, 9)}


def input_spec(stated: Any, where: str) -> InputSpec:
    """Parse ``KIND:CxHxW``; return an InputSpec unchanged.

    Packed RAW with 4 channels is Bayer, with 9 X-Trans.

    Raises:
        UsageError: The text is malformed; the error names `where`.
    """
    if isinstance(stated, InputSpec):
        return stated
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


def output_spec(stated: Any, where: str) -> OutputSpec:
    """Parse ``KIND:CHANNELS`` or, for images and masks larger than the input, ``KIND:CHANNELSxSCALE``.

    An OutputSpec is returned unchanged.

    Raises:
        UsageError: The text is malformed; the error names `where`.
    """
    if isinstance(stated, OutputSpec):
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
