"""What a session is fed: each input of its model by name, from the array that holds all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.contracts.input_parts import Packing, packing_of_file
from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray

#: Types of inputs, and what NumPy calls them.
INPUT_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32"}


class ModelInput(NamedTuple):
    """An input of a model, described as ``InferenceSession.get_inputs()`` does, for engines that describe it otherwise.

    Attributes:
        name: In the file.
        type: A key of :data:`INPUT_TYPES`.
        shape: The batch dimension first; None for what may vary.
    """

    name: str
    type: str
    shape: Sequence[int | None]


def packing_of_inputs(inputs: Sequence[Any], axes: int) -> Packing | None:
    """Return how the inputs of a model are held in one array; None if the array is the one input itself.

    Args:
        inputs: As ``InferenceSession.get_inputs()`` describes them.
        axes: Of the array.
    """
    return packing_of_file([each.shape for each in inputs], axes)


def feeds_of(inputs: Sequence[Any], packed: FloatArray) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of a model by name, in their types; whole numbers are rounded.

    Args:
        inputs: As ``InferenceSession.get_inputs()`` describes them.
        packed: (N, C, H, W), see :class:`zoo.contracts.input_parts.Packing`; or the one input itself.
    """
    import numpy as np

    packing = packing_of_inputs(inputs, packed.ndim)
    arrays = [packed] if packing is None else packing.unpack(packed)
    feeds = {}
    for each, array in zip(inputs, arrays, strict=True):
        kind = INPUT_TYPES.get(each.type, "float32")
        feeds[each.name] = np.ascontiguousarray(array if kind == "float32" else np.round(array), dtype=kind)
    return feeds


def check_fed(inputs: Sequence[Any], packed: FloatArray) -> None:
    """Check that a model takes arrays of this shape.

    Args:
        inputs: As ``InferenceSession.get_inputs()`` describes them.
        packed: (N, C, H, W), or the one input itself: what :func:`feeds_of` is to divide.

    Raises:
        InputError: It does not; its message states the shape that is expected.
    """
    packing = packing_of_inputs(inputs, packed.ndim)
    expected = inputs[0].shape if packing is None else [None, packing.channels, *packing.sides]
    fits = len(expected) == packed.ndim and all(
        not isinstance(side, int) or side == given for side, given in zip(expected, packed.shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"The model expects inputs of {shape_text(expected)}, not {shape_text(packed.shape)}."
        )


def shape_text(sides: Sequence[Any]) -> str:
    """Return a shape as a message states it, as in "(batch, 3, height, width)".

    Args:
        sides: The batch dimension first; None for what may vary.
    """
    names = (
        ("batch", "channels", "height", "width") if len(sides) == 4 else ("batch", *["any"] * len(sides[1:]))
    )
    texts = (name if side is None else str(side) for name, side in zip(names, sides, strict=True))
    return f"({', '.join(texts)})"
