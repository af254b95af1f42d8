"""From white-balanced camera colours, on the curve of :mod:`zoo.raw.tone`, to the samples of an sRGB picture."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.images.srgb import linear_to_srgb, srgb_to_linear
from zoo.raw.tone import decode, encode

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.raw.decode import RawFrame

    FloatArray = npt.NDArray[np.float32]

#: Steps of linear light in the table of 8-bit samples; one is a fifth of a sample at black.
_STEPS = 1 << 14


def matrix_of(frame: RawFrame) -> FloatArray:
    """Return the frame's matrix from camera colours to linear sRGB, (3, 3); if it has none, the colours stay."""
    if frame.to_srgb is None:
        return np.eye(3, dtype=np.float32)
    return np.array(frame.to_srgb, dtype=np.float32).reshape(3, 3)


def develop(values: FloatArray, to_srgb: FloatArray, largest: int) -> npt.NDArray[Any]:
    """Return the samples of a picture, (3, rows, columns) of uint8, or uint16 if `largest` is above 255.

    Args:
        values: (3, rows, columns), what a network answers.
        to_srgb: (3, 3), from camera colours to linear sRGB.
        largest: The sample that stands for 1.
    """
    linear = to_linear_srgb(values, to_srgb)
    np.clip(linear, 0, 1, out=linear)
    if largest > 255:
        return np.asarray(np.rint(linear_to_srgb(linear) * np.float32(largest)), dtype=np.uint16)
    linear *= np.float32(_STEPS - 1)
    linear += np.float32(0.5)
    return _table(largest).take(linear.astype(np.uint16))


def to_linear_srgb(values: FloatArray, to_srgb: FloatArray) -> FloatArray:
    """Return linear sRGB, not clipped, of what a network answers; both (3, rows, columns)."""
    linear = decode(values)
    out = np.empty_like(linear)
    # Without BLAS, whose threads take longer to start than this takes.
    for row, weights in zip(out, to_srgb, strict=True):
        np.multiply(linear[0], weights[0], out=row)
        row += linear[1] * weights[1]
        row += linear[2] * weights[2]
    return out


def camera_target(picture: FloatArray, to_srgb: FloatArray) -> FloatArray:
    """Return what a network should answer for a picture: the inverse of :func:`develop`.

    Args:
        picture: sRGB in [0, 1], (3, rows, columns).
        to_srgb: (3, 3), from camera colours to linear sRGB.
    """
    linear = srgb_to_linear(picture)
    inverse = np.linalg.inv(to_srgb.astype(np.float64)).astype(np.float32)
    return encode(np.einsum("ij,jhw->ihw", inverse, linear))


@functools.cache
def _table(largest: int) -> npt.NDArray[np.uint8]:
    linear = np.arange(_STEPS, dtype=np.float32) / np.float32(_STEPS - 1)
    return np.asarray(np.rint(linear_to_srgb(linear) * np.float32(largest)), dtype=np.uint8)
