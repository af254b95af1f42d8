"""What a network accepts while a recipe is applied to it, and the crops that suit it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.contracts import Architecture, Technique

#: Side of the training crops in input-tensor pixels, where the network accepts it.
_CROP = 128


def adapt_input(architecture: Architecture, techniques: Sequence[Technique]) -> Architecture:
    """Return a copy with an input that suits the network before and after each of the techniques."""
    adapted = copy.copy(architecture)
    for technique in techniques:
        adapted.input = technique.adapt_input(adapted.input)
    return adapted


def restrict_input(architecture: Architecture, **changes: Any) -> Architecture:
    """Return a copy with `changes` to the fields of its input."""
    restricted = copy.copy(architecture)
    restricted.input = dataclasses.replace(architecture.input, **changes)
    return restricted


def choose_crop(architecture: Architecture, wanted: int) -> int:
    """Return the side of the training crops in input-tensor pixels.

    Args:
        architecture: The network.
        wanted: The side asked for; 0 for the default.

    Raises:
        UsageError: The network cannot be trained on such crops.
    """
    height, width = architecture.input.example
    if architecture.input.fixed_size:
        if height != width:
            raise UsageError(
                f"{architecture.id} expects {width}x{height} input, but training uses square crops."
            )
        if wanted not in (0, height):
            raise UsageError(
                f"{architecture.id} expects {width}x{height} input, so the crop size cannot be {wanted}.",
                hint="Omit --crop.",
            )
        return height
    # A classifier learns what it is evaluated on, whole images of its size; other networks learn from parts of images.
    crop = wanted or min(height, width, *(() if architecture.output.kind == "logits" else (_CROP,)))
    multiple = architecture.input.multiple_of
    if crop % multiple or crop <= 0:
        raise UsageError(
            f"Crops for {architecture.id} must be a multiple of {multiple}, not {crop}.",
            hint=f"Use --crop {max(multiple, crop - crop % multiple)}",
        )
    return crop
