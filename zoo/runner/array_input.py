"""Inputs that are numbers, from a file of arrays, for networks whose input is not an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import InputError
from zoo.storage.array_files import open_arrays

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zoo.contracts import FloatArray, InputSpec
    from zoo.contracts.input_parts import InputPart

#: Numbers in all arrays of a file together.
_MOST_NUMBERS = 1 << 28


def read_arrays(path: Path, spec: InputSpec) -> FloatArray:
    """Return the inputs that a file holds as one array, (N, C, H, W).

    The arrays are called after the inputs; of a network with one input the name does not matter. They have a batch
    dimension, or none of them has one.

    Args:
        path: A .npz, .npy or .safetensors file.
        spec: The input of the network.

    Raises:
        InputError: The file cannot be used, or its arrays are not the inputs of the network.
    """
    if spec.parts:
        return spec.pack(load_arrays(path, spec.parts))
    return _lone(_loaded(path), spec, path)


def load_arrays(path: Path, parts: Sequence[InputPart]) -> dict[str, FloatArray]:
    """Return the arrays in a file by name, each with a batch dimension; a lone one is the only input, however called.

    Args:
        path: A .npz, .npy or .safetensors file.
        parts: The inputs that it should hold.

    Raises:
        InputError: The file cannot be used.
    """
    arrays = _loaded(path)
    if len(parts) == len(arrays) == 1:
        arrays = {parts[0].name: next(iter(arrays.values()))}
    axes = {part.name: len(part.shape) for part in parts}
    alone = [name for name, array in arrays.items() if array.ndim == axes.get(name)]
    if alone and len(alone) == len(arrays):
        arrays = {name: array[None] for name, array in arrays.items()}
    return arrays


def _loaded(path: Path) -> dict[str, FloatArray]:
    arrays: dict[str, FloatArray] = {}
    for name, rows in open_arrays(path).items():
        if int(np.prod(rows.shape, dtype=np.int64)) > _MOST_NUMBERS:
            raise InputError(f"{path}: the array '{name}' has more than {_MOST_NUMBERS:,} numbers.")
        arrays[name] = np.asarray(rows[...])
    return arrays


def _lone(arrays: dict[str, FloatArray], spec: InputSpec, path: Path) -> FloatArray:
    """The input of a network with one, of numbers in any range."""
    if len(arrays) != 1:
        raise InputError(f"{path} holds {len(arrays)} arrays; the network has one input.")
    array = np.ascontiguousarray(next(iter(arrays.values())), dtype=np.float32)
    array = array[None] if array.ndim == 3 else array
    fits = array.ndim == 4 and array.shape[1] == spec.channels and len(array) > 0
    fits = fits and not any(side % spec.multiple_of or not side for side in array.shape[2:])
    if not fits or (spec.fixed_size and array.shape[2:] != spec.example):
        sides = "x".join(map(str, spec.example)) if spec.fixed_size else "HxW"
        raise InputError(
            f"{path} holds an array of {'x'.join(map(str, array.shape))}; {spec.channels}x{sides} is needed, with or "
            f"without a batch dimension{f', sides multiples of {spec.multiple_of}' if spec.multiple_of > 1 else ''}."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{path} contains NaN or infinite values.")
    return array
