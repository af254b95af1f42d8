"""Samples of networks with several inputs, which travel as one array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import Architecture


def pack_sample(architecture: Architecture, given: Any, what: str) -> npt.NDArray[np.float32]:
    """Return the inputs of one sample as one array, (C, H, W).

    Args:
        architecture: The network, which has several inputs.
        given: The inputs, without a batch dimension, by name or in a tuple. In a dictionary with places for names they
            are in order. A lone array is the only input.
        what: What messages call the sample.

    Raises:
        InputError: An input is missing or unknown, or one does not have the shape or the numbers stated.
    """
    spec = architecture.input
    if not isinstance(given, (Mapping, tuple, list)):
        given = (given,)
    named = isinstance(given, Mapping) and set(given) != {str(place) for place in range(len(given))}
    arrays = {name: np.asarray(each)[None] for name, each in given.items()} if named else None
    ordered = given.values() if isinstance(given, Mapping) else given
    try:
        packed = spec.pack(arrays if arrays is not None else [np.asarray(each)[None] for each in ordered])
    except InputError as error:
        error.message = f"{what}: {error.message}"
        raise
    return np.ascontiguousarray(packed[0])


def only_input(given: Any, architecture: Architecture, what: str) -> npt.NDArray[Any]:
    """Return the input of one sample of a network that has one.

    Args:
        given: The input, or several.
        architecture: The network.
        what: What messages call the data.

    Raises:
        InputError: There are several.
    """
    if isinstance(given, Mapping):
        raise InputError(
            f"{what} holds {len(given)} inputs per sample; {architecture.id} has one.",
            hint="From Python, pass an example with all of them: example=(a, b). In a network's file, state INPUTS.",
        )
    found: npt.NDArray[Any] = given
    return found
