"""What a network accepts while a recipe is applied to it, and the crops that suit it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.contracts import crop_size, sides_of
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.contracts import Architecture, CropSize, Dataset, Technique

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


def choose_crop(architecture: Architecture, wanted: int) -> CropSize:
    """Return the size of the training crops in input-tensor pixels.

    It is that of the example for networks of a fixed size and for those whose output has no pixels, else a square.

    Args:
        architecture: The network.
        wanted: The side of a square that was asked for; 0 for the default.

    Raises:
        UsageError: The network cannot be trained on such crops.
    """
    height, width = architecture.input.example
    if architecture.input.fixed_size:
        if wanted and (wanted, wanted) != (height, width):
            raise UsageError(
                f"{architecture.id} expects {width}x{height} input, so the crop size cannot be {wanted}.",
                hint="Omit --crop.",
            )
        return crop_size(height, width)
    # What has no value for each pixel is computed from whole images, of the size that it is evaluated on.
    whole = not architecture.output.dense and not wanted
    crop = crop_size(height, width) if whole else wanted or min(height, width, _CROP)
    multiple = architecture.input.multiple_of
    for side in sides_of(crop):
        if side % multiple or side <= 0:
            raise UsageError(
                f"Crops for {architecture.id} must be a multiple of {multiple}, not {side}.",
                hint=f"Use --crop {max(multiple, side - side % multiple)}",
            )
    return crop


def check_crops(dataset: Dataset, architecture: Architecture, crop: CropSize) -> None:
    """Check that a dataset can be cut to the size that a network is trained on.

    Raises:
        UsageError: The crops are no squares, which the dataset does not know.
    """
    if not isinstance(crop, int) and not dataset.rectangular:
        height, width = crop
        raise UsageError(
            f"{architecture.id} expects {width}x{height} input, but the data '{dataset.id}' only yields squares.",
            hint="Set its attribute `rectangular` to true once its crops accept (height, width), or use other data:  "
            "zoo list datasets",
        )
