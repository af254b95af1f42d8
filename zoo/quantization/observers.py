"""What range a symmetric scale should cover, chosen from a histogram of magnitudes. Needs numpy alone.

Papers: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018 (moving averages); Migacz, "8-bit Inference with TensorRT", GTC 2017 (entropy); Wu et al.,
"Integer Quantization for Deep Learning Inference", 2020 (percentiles).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Counts = npt.NDArray[np.float64]

Observer = Literal["lsq", "mse", "minmax", "moving-average", "percentile", "entropy", "auto"]
#: What `auto` chooses from, by the error further on (:mod:`zoo.quantization.range_search`).
CANDIDATES: tuple[Observer, ...] = ("minmax", "percentile", "mse", "entropy")

#: Bins of the histogram of magnitudes. 127 levels need several bins each.
BINS = 2048
#: A scale below this is not a scale: it stands for "nothing but zeros was seen".
TINY = 1e-12
#: Share of values, in per cent, that the observer `percentile` covers unless told otherwise.
PERCENTILE = 99.99
#: How fast `moving-average` forgets, once this many pictures' inverse were seen.
MOMENTUM = 0.01
#: Share of the values that `entropy` may cut off.
_MOST_BEYOND = 0.01
#: Bins between the ranges that `entropy` tries.
_STRIDE = 4


class Magnitudes:
    """Counts of |x| over [0, limit]; the limit doubles whenever a larger value comes.

    Memory is constant however many values are added.

    Attributes:
        counts: (BINS,).
        limit: The upper end of the last bin.
        largest: The largest magnitude.
        average: The running mean of each image's largest magnitude.
        zeros: How many values were exactly 0, which no scale rounds.
        pictures: How many images were added.
    """

    def __init__(self) -> None:
        self.counts: Counts = np.zeros(BINS)
        self.limit = 0.0
        self.largest = 0.0
        self.average = 0.0
        self.zeros = 0
        self.pictures = 0

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count the magnitudes of `values`, (N, ...); those that are not finite are left out."""
        magnitudes = np.abs(values.reshape(len(values) if values.ndim > 1 else 1, -1))
        magnitudes = np.where(np.isfinite(magnitudes), magnitudes, np.float32(-1))
        if self.note_maxima(magnitudes.max(1, initial=0).tolist()):
            self.zeros += int(np.count_nonzero(magnitudes == 0))
            self.counts += np.histogram(magnitudes, BINS, (0.0, self.limit))[0]

    def note_maxima(self, maxima: list[float]) -> bool:
        """Add the largest magnitude of each image; return False if all of them are zero."""
        for largest in maxima:
            self.pictures += 1
            self.average += (largest - self.average) * max(MOMENTUM, 1 / self.pictures)
        largest = max(maxima, default=0.0)
        if largest <= TINY:
            return False
        self.largest = max(self.largest, largest)
        if self.limit == 0.0:
            self.limit = largest
        while self.limit < largest:
            self.limit *= 2
            merged = self.counts.reshape(BINS // 2, 2).sum(1)
            self.counts = np.concatenate([merged, np.zeros_like(merged)])
        return True

    def range(self, observer: Observer, levels: int, percentile: float = PERCENTILE) -> float:
        """Return the range, up to the largest magnitude, that `observer` chooses for `levels` steps from 0.

        It is 0 if only zeros were seen. `lsq`, which learns, starts from the range of `mse`.
        """
        if self.limit == 0.0:
            return 0.0
        if observer == "minmax":
            return self.largest
        if observer == "moving-average":
            return self.average
        if observer == "percentile":
            return self.percentile(percentile)
        return self.least_divergence(levels) if observer == "entropy" else self.least_error(levels)

    def percentile(self, share: float) -> float:
        """Return the range that holds `share` per cent of the magnitudes other than 0."""
        counts = self._without_zeros()
        sums = counts.cumsum()
        wanted = sums[-1] * share / 100
        index = min(int(np.searchsorted(sums, wanted)), BINS - 1)
        inside = (wanted - (sums[index] - counts[index])) / counts[index] if counts[index] else 1.0
        return min(self.largest, (index + float(inside)) * self.limit / BINS)

    def least_error(self, levels: int) -> float:
        """Return the range whose `levels` steps have the least squared error."""
        centres = (np.arange(BINS) + 0.5) * (self.limit / BINS)
        seen = self.counts > 0
        centres, counts = centres[seen], self.counts[seen]
        best, best_error = self.largest, float("inf")
        for share in np.linspace(1.0, 0.02, 99).tolist():
            step = self.largest * share / levels
            error = float(counts @ (centres - (centres / step).round().clip(max=levels) * step) ** 2)
            if error < best_error:
                best, best_error = self.largest * share, error
        return best

    def least_divergence(self, levels: int) -> float:
        """Return the range of minimum Kullback-Leibler divergence, as TensorRT's entropy calibration chooses it.

        The reference is the histogram cut at the range, with everything beyond it added to its last bin; its quantized
        form spreads the count of each level evenly over the bins of the level. Magnitudes of 0 are ignored.

        The divergence ignores how much was moved to the last bin: a range that holds only a few values at its end
        agrees perfectly with itself, although everything beyond it is lost. So only outliers may be beyond.
        """
        counts = self._without_zeros()
        used = int(np.flatnonzero(counts)[-1]) + 1
        width, best, best_divergence = self.limit / BINS, self.largest, float("inf")
        beyond = 1 - counts.cumsum() / counts.sum()
        for size in [*range(levels + 1, used, _STRIDE), used] if used > levels else ():
            if beyond[size - 1] > _MOST_BEYOND:
                continue
            divergence = _divergence(counts, size, levels + 1)
            if divergence < best_divergence:
                best, best_divergence = min(self.largest, size * width), divergence
        return best

    def _without_zeros(self) -> Counts:
        counts = self.counts.copy()
        counts[0] -= self.zeros
        return counts


def _divergence(counts: Counts, size: int, levels: int) -> float:
    """Of the first `size` bins with the rest on the last of them, from the same bins at `levels` levels."""
    inside = counts[:size]
    reference = inside.copy()
    reference[-1] += counts[size:].sum()
    seen = inside > 0
    starts = -(-np.arange(levels) * size // levels)
    lengths = np.diff(starts, append=size)
    occupied = np.add.reduceat(seen.astype(np.float64), starts)
    mean = np.add.reduceat(inside, starts) / np.maximum(occupied, 1)
    levelled = np.where(seen, np.repeat(mean, lengths), 0.0)
    total, kept = reference.sum(), levelled.sum()
    if kept == 0 or (reference[-1] > 0 and not seen[-1]):
        return float("inf")
    reference, levelled = reference[seen] / total, levelled[seen] / kept
    return float(reference @ np.log(reference / levelled))
