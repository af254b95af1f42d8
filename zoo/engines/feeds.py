"""What a session of ONNX Runtime is fed: each input of its model by name, from the array that holds all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.contracts.input_parts import Packing, packing_of_file

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray

#: Types of inputs, and what NumPy calls them.
INPUT_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32"}


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
