"""Estimating a frame's noise from its own pixels, for files that state none.

In blocks of each colour, the diagonal differences of neighbours hold the noise and little of the picture; the blocks
that hold least of it, at each brightness, tell the variance there, to which ``shot * x + read`` is fitted (as in Foi
et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP 2008).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.raw.noise import NoiseProfile

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.raw.decode import RawFrame

#: Differences of a block's side, and the most rows of blocks that are looked at.
_SIDE, _MOST_ROWS = 8, 48
#: Groups of blocks by brightness; of each group's variances this quantile counts, which for noise alone is that share
#: of its variance (chi-squared with 64 degrees of freedom, by the cube-root approximation).
_GROUPS, _QUANTILE, _SHARE = 8, 0.03, 0.695
#: Blocks brighter than this may be cut off at white.
_BRIGHTEST = 0.8
_FEWEST = 64


def estimate_noise(frame: RawFrame) -> NoiseProfile:
    """Return the noise of a frame, taken to be the same for its colours."""
    span = min(white - black for white, black in zip(frame.white, frame.black, strict=True))
    rounding = 1 / 12 / span**2
    found = [
        _blocks(frame, row, column)
        for row in range(len(frame.pattern))
        for column in range(len(frame.pattern))
    ]
    levels, variances = (np.concatenate(each) for each in zip(*found, strict=True))
    usable = (levels < _BRIGHTEST) & (variances > 0)
    levels, variances = levels[usable], variances[usable]
    if len(levels) < _FEWEST:
        return NoiseProfile((0.0,) * 3, (rounding,) * 3)
    order = np.argsort(levels, kind="stable")
    groups = np.array_split(order, min(_GROUPS, len(order) // (_FEWEST // 2)))
    x = np.array([levels[group].mean() for group in groups])
    y = np.array([np.quantile(variances[group], _QUANTILE) for group in groups]) / _SHARE
    shot, read = _line(np.maximum(x, 0), y)
    return NoiseProfile((shot,) * 3, (max(read, rounding),) * 3)


def _blocks(
    frame: RawFrame, row: int, column: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the means and the variances of noise of the blocks of one place in the cell, black 0 and white 1."""
    period, color = len(frame.pattern), int(frame.pattern[row, column])
    plane = frame.mosaic[row::period, column::period]
    rows, columns = len(plane) // (2 * _SIDE), plane.shape[1] // (2 * _SIDE)
    if not rows or not columns:
        return np.empty(0), np.empty(0)
    taken = np.linspace(0, rows - 1, min(rows, _MOST_ROWS)).astype(int)
    pixels = plane[: 2 * _SIDE * rows, : 2 * _SIDE * columns].reshape(rows, _SIDE, 2, columns, _SIDE, 2)[
        taken
    ]
    values = (pixels.astype(np.float32) - np.float32(frame.black[color])) / np.float32(
        frame.white[color] - frame.black[color]
    )
    corner, right, below, across = (values[:, :, at, :, :, side] for at in (0, 1) for side in (0, 1))
    noise = np.square((corner - right - below + across) / 2).mean(axis=(1, 3), dtype=np.float64)
    return values.mean(axis=(1, 2, 4, 5), dtype=np.float64).ravel(), noise.ravel()


def _line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and height at 0, neither below 0, of the line along the lower edge of the points."""
    least = y.max() * 1e-6
    weights = 1 / np.maximum(y, least)
    slope = height = 0.0
    for _ in range(6):
        w = weights**2
        a, b, c = (w * x * x).sum(), (w * x).sum(), w.sum()
        d, e = (w * x * y).sum(), (w * y).sum()
        determinant = a * c - b * b
        slope, height = 0.0, e / c
        if determinant > 0 and c * d > b * e:
            slope, height = (c * d - b * e) / determinant, (a * e - b * d) / determinant
        if height < 0:
            slope, height = d / a, 0.0
        line = np.maximum(slope * x + height, least)
        # What lies above holds structure of the picture, too.
        weights = np.where(y > 1.2 * line, 0.2, 1.0) / line
    return float(slope), float(height)
