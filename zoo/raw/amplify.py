"""How many times a dark exposure must be amplified."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.raw.decode import RawFrame

#: Mean linear level of a well-exposed picture: the 18 % grey that ISO 12232 (standard output sensitivity)
#: puts at 118 of 255 in sRGB. The median of the photographs that `darkroom` trains on is the same.
TARGET_LEVEL = 0.18
#: See-in-the-Dark trains with ratios up to 300 (Chen et al., CVPR 2018); no network here has seen more.
LARGEST_RATIO = 300.0
_COUNTED_AT_ONCE = 1 << 18


def auto_ratio(frame: RawFrame, target: float = TARGET_LEVEL) -> float:
    """Return the amplification after which the green pixels, saturated at 1, have the mean `target`; from 1 to 300.

    Saturation makes it robust: a lamp in a dark scene counts as 1, however bright it is. Values below black
    stay negative, or the noise of a dark frame would pass for light.
    """
    levels, weights = _greens(frame)

    def too_dark(ratio: float) -> bool:
        # summed without BLAS, whose threads take longer to start than this takes, above all on a busy board
        return bool((np.minimum(levels * ratio, 1.0) * weights).sum() < target)

    low, high = 1.0, LARGEST_RATIO
    if not too_dark(low):
        return low
    if too_dark(high):
        return high
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if too_dark(middle) else (low, middle)
    return math.sqrt(low * high)


def _greens(frame: RawFrame) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the linear levels of the green pixels that occur, and the share of the pixels that have each."""
    period = len(frame.pattern)
    levels, counts = [], []
    for row, column in np.argwhere((frame.pattern == 1) | (frame.pattern == 3)):
        colour = int(frame.pattern[row, column])
        histogram = _histogram(frame.mosaic[row::period, column::period])
        values = np.flatnonzero(histogram)
        levels.append((values - frame.black[colour]) / (frame.white[colour] - frame.black[colour]))
        counts.append(histogram[values])
    weights = np.concatenate(counts).astype(np.float64)
    return np.concatenate(levels), weights / weights.sum()


def _histogram(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.intp]:
    """Count each value from 0 to 65535, some rows at a time: counting takes eight bytes per pixel."""
    counts = np.zeros(1 << 16, dtype=np.intp)
    rows = max(1, _COUNTED_AT_ONCE // pixels.shape[1])
    for first in range(0, len(pixels), rows):
        part = np.bincount(pixels[first : first + rows].ravel())
        counts[: len(part)] += part
    return counts
