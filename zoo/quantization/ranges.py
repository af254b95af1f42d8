"""Ranges of tensors: magnitudes of activations counted in torch, and one range per channel for weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.quantization.observers import BINS, TINY, Magnitudes

#: How many values of an image are counted, at the most.
_COUNTED = 1 << 16


class MagnitudeHistogram(Magnitudes):
    """The same counts, of tensors, computed in torch; of large images, of a part of the values.

    Attributes:
        below: The farthest that two images reach below 0, the farther one first.
        above: The same above 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.below = (0.0, 0.0)
        self.above = (0.0, 0.0)

    def add(self, values: Tensor) -> None:  # type: ignore[override]
        """Count the magnitudes of `values`, (N, ...); those that are not finite are left out."""
        if not values.numel():
            return
        rows = values.detach().float().reshape(len(values) if values.ndim > 1 else 1, -1)
        magnitudes = rows.abs()
        least, most = rows.aminmax(dim=1)
        if not bool((torch.isfinite(least) & torch.isfinite(most)).all()):
            finite = torch.isfinite(rows)
            least, most = rows.where(finite, 0.0).aminmax(dim=1)
            magnitudes = magnitudes.where(finite, -1.0)
        self.below = _two_largest(self.below, (-least).tolist())
        self.above = _two_largest(self.above, most.tolist())
        if self.note_maxima(torch.maximum(-least, most).tolist()):
            counted = magnitudes[:, :: _stride(magnitudes.shape[1])]
            self.zeros += counted.numel() - int(torch.count_nonzero(counted))
            self.counts += torch.histc(counted, BINS, 0.0, self.limit).double().cpu().numpy()


def _two_largest(known: tuple[float, float], found: list[float]) -> tuple[float, float]:
    first, second = sorted([*known, *found])[-1:-3:-1]
    return first, second


def _stride(values: int) -> int:
    """Between the values of an image that are counted: it hits all channels, rows and columns alike."""
    stride = -(-values // _COUNTED)
    while math.gcd(stride, values) > 1:
        stride += 1
    return stride


def channel_maxima(weight: Tensor) -> Tensor:
    """Return the largest magnitude of each output channel (dimension 0): (C, ...) to (C,)."""
    return weight.detach().float().abs().flatten(1).amax(1)


def best_channel_ranges(weight: Tensor, levels: int) -> Tensor:
    """Return the range of each output channel whose `levels` steps have the least squared error: (C, ...) to (C,)."""
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
    """Return ranges (1,) or (C,) with a usable value for channels that are all, or nearly, zero.

    A scale of 0 divides by zero, and a minute one overflows the int32 bias of the integer convolution.
    """
    top = ranges.max()
    if float(top) <= TINY:
        return torch.ones_like(ranges)
    return ranges.clamp(min=float(top) * 2.0**-16)
