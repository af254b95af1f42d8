"""The sRGB transfer curve, IEC 61966-2-1."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]


def srgb_to_linear(values: npt.NDArray[np.uint8] | FloatArray) -> FloatArray:
    """Invert the sRGB transfer curve.

    Args:
        values: 8-bit values, or floats in [0, 1], (...,) of any shape.

    Returns:
        Linear values in [0, 1], of the same shape.
    """
    if values.dtype == np.uint8:
        return _table()[values]
    return _linear(values).astype(np.float32)


def linear_to_srgb(values: FloatArray) -> FloatArray:
    """Apply the sRGB transfer curve.

    Args:
        values: In [0, 1], (...,) of any shape.

    Returns:
        Values in [0, 1], of the same shape.
    """
    low = values * np.float32(12.92)
    high = np.float32(1.055) * np.power(values, np.float32(1 / 2.4)) - np.float32(0.055)
    return np.where(values <= np.float32(0.0031308), low, high).astype(np.float32)


def _linear(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


@functools.cache
def _table() -> FloatArray:
    return _linear(np.arange(256, dtype=np.float64) / 255).astype(np.float32)
