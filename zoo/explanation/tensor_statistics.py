"""Sums over the values of one tensor: how they are spread, and what rounding them costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.explanation.rounding_rule import RoundingRule

    Values = npt.NDArray[np.float32]

_BINS = 4096


class Distribution:
    """Counts of values over [-limit, limit]; the limit doubles whenever a larger one comes."""

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.float64] = np.zeros(_BINS)
        self.limit = 0.0
        self.least = math.inf
        self.largest = -math.inf

    def add(self, values: Values) -> None:
        """Count `values`, of any shape; those that are not finite are left out."""
        values = values[np.isfinite(values)]
        if not values.size:
            return
        self.least, self.largest = (
            min(self.least, float(values.min())),
            max(self.largest, float(values.max())),
        )
        top = max(-self.least, self.largest, 1e-12)
        self.limit = self.limit or top
        while self.limit < top:
            self.limit *= 2
            middle = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(middle, len(middle) // 2)
        self.counts += np.histogram(values, _BINS, (-self.limit, self.limit))[0]

    def edges(self) -> npt.NDArray[np.float64]:
        """Return where bins begin and end, one more than there are bins."""
        return np.linspace(-self.limit, self.limit, _BINS + 1)

    def share_beyond(self, magnitude: float) -> float:
        """Return the share of values whose magnitude is larger, to the width of a bin."""
        centres = np.abs(self.edges()[:-1] + self.limit / _BINS)
        return float(self.counts[centres > magnitude].sum() / max(self.counts.sum(), 1))

    def magnitude_of(self, share: float) -> float:
        """Return the magnitude that `share` of the values do not exceed, to the width of a bin."""
        half = _BINS // 2
        folded = self.counts[half:] + self.counts[:half][::-1]
        sums = folded.cumsum()
        if not sums[-1]:
            return 0.0
        index = int(np.searchsorted(sums, share * sums[-1]))
        return min(max(-self.least, self.largest), (min(index, half - 1) + 1) * self.limit / half)


class RoundingError:
    """What one way of rounding does to the values of one tensor.

    Attributes:
        clipped: Share of values beyond the levels.
        sqnr_db: Signal-to-noise ratio; infinite if nothing is lost.
        clipping: Share of the squared error that clipped values make.
    """

    def __init__(self, rounding: RoundingRule) -> None:
        self.rounding = rounding
        self._signal = self._error = self._clip_error = 0.0
        self._clipped = self._count = 0

    def add(self, values: Values) -> None:
        """Round `values` and sum up what it costs."""
        rounded, clipped = self.rounding.rounded(values)
        errors = np.square(rounded - values, dtype=np.float64)
        self._signal += float(np.square(values, dtype=np.float64).sum())
        self._error += float(errors.sum())
        self._clipped += int(np.count_nonzero(clipped))
        self._count += values.size
        if clipped.any():
            self._clip_error += float(errors[clipped].sum())

    @property
    def clipped(self) -> float:
        return self._clipped / max(self._count, 1)

    @property
    def clipping(self) -> float:
        return self._clip_error / self._error if self._error else 0.0

    @property
    def sqnr_db(self) -> float:
        if self._error == 0:
            return math.inf
        return 10 * math.log10(max(self._signal, 1e-300) / self._error)
