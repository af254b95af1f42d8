"""What range of values an int8 scale should cover: the largest value, or the one with the least squared error."""

from __future__ import annotations

import torch
from torch import Tensor

#: Bins of the histogram of magnitudes. 127 levels need several bins each.
BINS = 2048
#: A scale below this is no scale: it stands for "nothing but zeros was seen".
TINY = 1e-12


class MagnitudeHistogram:
    """Counts of |x| over [0, limit]; the limit doubles whenever a larger value comes.

    Memory is constant however many batches are added.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.float64)
        self.limit = 0.0
        self.largest = 0.0

    def add(self, values: Tensor) -> None:
        """Count the magnitudes of `values` (any shape); values that are not finite are left out."""
        magnitudes = values.detach().abs().flatten().float()
        magnitudes = magnitudes[torch.isfinite(magnitudes)]
        largest = float(magnitudes.max()) if magnitudes.numel() else 0.0
        if largest <= TINY:
            return
        self.largest = max(self.largest, largest)
        if self.limit == 0.0:
            self.limit = largest
        while self.limit < largest:
            self.limit *= 2
            merged = self.counts.view(BINS // 2, 2).sum(1)
            self.counts = torch.cat([merged, torch.zeros_like(merged)])
        self.counts += torch.histc(magnitudes, BINS, 0.0, self.limit).double().cpu()

    def best_range(self, levels: int) -> float:
        """The range in [0, largest] whose `levels` steps give the least squared error; 0 if nothing was seen."""
        if self.limit == 0.0:
            return 0.0
        centres = (torch.arange(BINS, dtype=torch.float64) + 0.5) * (self.limit / BINS)
        seen = self.counts > 0
        centres, counts = centres[seen], self.counts[seen]
        best, best_error = self.largest, float("inf")
        for share in torch.linspace(1.0, 0.02, 99).tolist():
            step = self.largest * share / levels
            error = float((counts * (centres - (centres / step).round().clamp(max=levels) * step) ** 2).sum())
            if error < best_error:
                best, best_error = self.largest * share, error
        return best


def channel_maxima(weight: Tensor) -> Tensor:
    """Largest magnitude of each output channel (dimension 0). (C, ...) -> (C,)"""
    return weight.detach().float().abs().flatten(1).amax(1)


def best_channel_ranges(weight: Tensor, levels: int) -> Tensor:
    """Per output channel, the range whose `levels` steps give the least squared error. (C, ...) -> (C,)"""
    rows = weight.detach().float().flatten(1)
    largest = channel_maxima(weight)
    best, best_error = largest.clone(), torch.full_like(largest, float("inf"))
    # Eight bits lose by clipping more than a little, two bits want a range of less than half.
    lowest = 0.6 if levels >= 127 else 0.2
    for share in torch.linspace(1.0, lowest, 33).tolist():
        step = (largest * share / levels).clamp(min=TINY).unsqueeze(1)
        error = (rows - (rows / step).round_().clamp_(-levels, levels).mul_(step)).square_().sum(1)
        better = error < best_error
        best = torch.where(better, largest * share, best)
        best_error = torch.where(better, error, best_error)
    return best


def without_empty_channels(ranges: Tensor) -> Tensor:
    """`ranges` with a usable value for channels that are all (or as good as) zero.

    A scale of 0 divides by zero, and a minute one overflows the int32 bias of the integer convolution.
    """
    top = ranges.max()
    if float(top) <= TINY:
        return torch.ones_like(ranges)
    return ranges.clamp(min=float(top) * 2.0**-16)
