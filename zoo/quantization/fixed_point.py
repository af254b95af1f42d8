"""Fixed-point numbers in training: quantizers whose levels are those of a format i.f, and of one or two bits.

Papers: AskariHemmat et al., "U-Net Fixed-Point Quantization for Medical Image Segmentation", MICCAI Workshops 2019
(arXiv:1908.01073); Rastegari et al., "XNOR-Net", ECCV 2016 (binary weights); Li et al., "Ternary Weight Networks",
2016 (arXiv:1605.04711).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.ranges import without_empty_channels
from zoo.quantization.rounding import along_channels, fake_round

Scaling = Literal["free", "shift", "one"]
Mode = Literal["saturate", "paper"]

#: A weight counts as zero below this share of its channel's mean magnitude: section 2.2 of the ternary paper.
_TERNARY_THRESHOLD = 0.7


def saturating_levels(bits: int, *, weight: bool, nonnegative: bool) -> tuple[int, int]:
    """Return the range of two's complement in `bits` with the sign; without it if there are no negative values.

    At 8 bits a weight leaves -128 out, as engines expect.
    """
    if nonnegative:
        return 0, 2**bits - 1
    half: int = 2 ** (bits - 1)
    return (1 - half if weight and bits == 8 else -half), half - 1


def paper_levels(ibits: int, fbits: int, *, nonnegative: bool) -> tuple[int, int]:
    """Return the range of sign and magnitude as published: a separate sign, and a fraction that may round up to 1."""
    high = 2 ** (ibits + fbits) if fbits else 2**ibits - 1
    return (0 if nonnegative else -high), high


class _Scaled(FakeQuantize):
    """A quantizer whose scale is learned (`free`), a power of two (`shift`), or `unit` for good (`one`)."""

    def __init__(
        self,
        bits: int,
        scaling: Scaling,
        *,
        weight: bool,
        channels: int | None = None,
        nonnegative: bool = False,
        unit: float = 1.0,
        learned: bool = True,
    ) -> None:
        super().__init__(
            bits,
            "lsq" if scaling == "free" and learned else "mse",
            weight=weight,
            channels=channels if scaling == "free" else None,
            nonnegative=nonnegative,
        )
        self.scaling = scaling
        if scaling == "one":
            self.log_scale.fill_(math.log(unit))

    @property
    def scale(self) -> Tensor:
        """The step between two levels, always positive. (1,) or (C,), float32."""
        if self.scaling == "free":
            return super().scale
        return torch.exp2((self.log_scale.float() / math.log(2)).round())

    def set_range(self, largest: Tensor) -> None:
        if self.scaling != "one":
            super().set_range(largest)


class FixedPointQuantizer(_Scaled):
    """Numbers of `ibits` bits before the point and `fbits` after it, times a scale.

    `saturate`: the nearest multiple of 2^-fbits, the outermost ones for what lies beyond; two's complement in
    ibits + fbits bits. The gradient passes where nothing saturates.

    `paper`: of |x| the integer part is clamped to [0, 2^ibits - 1] and the fraction rounded to multiples of
    2^-fbits, so that with ibits = 0 a number beyond 1 keeps its fraction (it wraps), and with fbits = 0 every
    number loses its own (it is truncated). The gradient passes everywhere.
    """

    def __init__(
        self,
        ibits: int,
        fbits: int,
        mode: Mode,
        scaling: Scaling,
        *,
        weight: bool = False,
        channels: int | None = None,
        nonnegative: bool = False,
    ) -> None:
        super().__init__(
            ibits + fbits,
            scaling,
            weight=weight,
            channels=channels,
            nonnegative=nonnegative,
            unit=2.0**-fbits,
        )
        self.ibits, self.fbits, self.format = ibits, fbits, mode
        if mode == "saturate":
            self.low, self.high = saturating_levels(self.bits, weight=weight, nonnegative=nonnegative)
            self.reach = self.high
        else:
            self.low, self.high = paper_levels(ibits, fbits, nonnegative=nonnegative)
            self.reach = 2**self.bits - 1  # one step before it wraps

    def extra_repr(self) -> str:
        return f"{self.ibits}.{self.fbits}, {self.format}, {self.scaling}, {super().extra_repr()}"

    def forward(self, x: Tensor) -> Tensor:
        if self.mode != "quantize":
            return super().forward(x)
        if self.limit is not None:
            x = x.clamp(max=self.limit)
        if self.format == "saturate":
            return fake_round(x, self.scale, self.low, self.high)
        if self.weight and self.frozen:
            return x  # rounded for good; a fraction that was rounded up to 1 must not wrap now
        return paper_round(x, self.scale, self.ibits, self.fbits)


def paper_round(x: Tensor, scale: Tensor, ibits: int, fbits: int) -> Tensor:
    """Apply the paper's to_fixed_point to x in units of 2^fbits * `scale`, with a straight-through gradient.

    The gradient of `scale` is that of learned step sizes.

    Args:
        x: Any shape; the result has its shape and type.
        scale: (1,), or (C,) for slices along dimension 0.
        ibits: Bits before the point.
        fbits: Bits after the point.
    """
    unit = along_channels(scale, x) * 2.0**fbits
    u = x.float() / unit
    return (unit * (u + (to_fixed_point(u.detach(), ibits, fbits) - u).detach())).to(x.dtype)


def to_fixed_point(x: Tensor, ibits: int, fbits: int) -> Tensor:
    """Apply the published function to each element: sign(x) * (q(floor|x|, ibits) + q(|x| - floor|x|, fbits)), where

    q(v, n) = round(min(v, 2^n - 1) * 2^n) / 2^n.
    """
    magnitude = x.abs()
    whole = magnitude.floor()
    fraction = magnitude - whole
    kept = whole.clamp(max=2.0**ibits - 1)
    rounded = (fraction.clamp(max=2.0**fbits - 1) * 2.0**fbits).round() / 2.0**fbits
    return x.sign() * (kept + rounded)


class _Signs(_Scaled):
    """Weights of a few levels whose scale follows from the weights themselves, with a straight-through gradient."""

    def __init__(self, bits: int, scaling: Scaling, *, channels: int | None = None) -> None:
        super().__init__(bits, scaling, weight=True, channels=channels, learned=False)
        self.low, self.high, self.reach = -1, 1, 1

    def observe_weight(self, weight: Tensor) -> None:
        """Choose the scale of least squared error for a weight as it is now."""
        rows = weight.detach().float()
        rows = rows.flatten(1) if self.channels is not None else rows.reshape(1, -1)
        self.set_range(without_empty_channels(self._best_scale(rows)))

    def forward(self, x: Tensor) -> Tensor:
        if self.mode != "quantize":
            return super().forward(x)
        if self.training and not self.frozen:
            self.observe_weight(x)
        rounded = self._signs(x.detach().float()) * along_channels(self.scale, x)
        return x + (rounded.to(x.dtype) - x).detach()

    def _best_scale(self, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def _signs(self, weight: Tensor) -> Tensor:
        raise NotImplementedError


class BinaryQuantizer(_Signs):
    """w becomes a * sign(w), where a is the mean of |w|: the nearest such numbers (Rastegari et al., 2016)."""

    def __init__(self, scaling: Scaling, *, channels: int | None = None) -> None:
        super().__init__(2, scaling, channels=channels)
        self.bits = 1

    def _best_scale(self, rows: Tensor) -> Tensor:
        return rows.abs().mean(1)

    def _signs(self, weight: Tensor) -> Tensor:
        return torch.where(weight < 0, -1.0, 1.0)


class TernaryQuantizer(_Signs):
    """w becomes a * sign(w) where |w| > d and 0 elsewhere; d = 0.7 mean|w|, a the mean of |w| beyond d (Li et al.)."""

    def __init__(self, scaling: Scaling, *, channels: int | None = None) -> None:
        super().__init__(2, scaling, channels=channels)

    def _best_scale(self, rows: Tensor) -> Tensor:
        beyond = rows.abs() > self._threshold(rows)
        return (rows.abs() * beyond).sum(1) / beyond.sum(1).clamp(min=1)

    def _signs(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1) if self.channels is not None else weight.reshape(1, -1)
        return (rows.sign() * (rows.abs() > self._threshold(rows))).view(weight.shape)

    @staticmethod
    def _threshold(rows: Tensor) -> Tensor:
        return _TERNARY_THRESHOLD * rows.abs().mean(1, keepdim=True)
