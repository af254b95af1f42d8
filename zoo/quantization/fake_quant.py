"""Modules that round activations and weights to int8 in training, with scales observed or learned.

Papers: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018; Esser et al., "Learned Step Size Quantization", ICLR 2020; the scale is learned as its
logarithm: Jain et al., "Trained Quantization Thresholds", MLSys 2020.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.quantization.observers import CANDIDATES, MOMENTUM, PERCENTILE, TINY, Observer
from zoo.quantization.ranges import (
    MagnitudeHistogram,
    best_channel_ranges,
    channel_maxima,
    without_empty_channels,
)
from zoo.quantization.rounding import fake_round

#: The buffer, and its key in state dicts, that keeps the lowest level where calibration may move it.
LOWEST_LEVEL = "lowest_level"
#: The share of the levels on the smaller side of 0: the least that it keeps, and the most at which moving is worth it.
_LEAST_SHARE, _WORTH_MOVING = 1 / 64, 0.45
#: log of the smallest and the largest scale there can be.
_LOG_SCALE_LIMITS = (-30.0, 30.0)


def levels_of(bits: int, *, weight: bool = False, nonnegative: bool = False) -> tuple[int, int]:
    """Return the lowest and the highest level of a width.

    Values that are all at least 0 need no sign, which doubles the levels they are rounded to. Weights leave the lowest
    level out: engines add pairs of int8 products in int16, which 2 * 128 * 128 overflows.
    """
    if nonnegative:
        return 0, 2**bits - 1
    high: int = 2 ** (bits - 1) - 1
    return (-high if weight else -high - 1), high


class FakeQuantize(nn.Module):
    """Fake quantization to multiples of one step, per tensor or per output channel (dimension 0).

    Levels are symmetric around 0, or start there where `nonnegative` says that values do. With `skewed`, calibration
    moves them to the side of 0 on which values reach farther, as they do behind a LeakyReLU. The forward pass computes
    in float32 whatever the input's type, and returns the input's type.

    Attributes:
        log_scale: (1,) or (C,); a parameter when the scale is learned and a buffer otherwise, of the same
            name and shape, so that a checkpoint loads into a module that was never calibrated.
        mode: "off" passes values through, "observe" does so and records them, "quantize" rounds.
    """

    log_scale: Tensor

    def __init__(
        self,
        bits: int,
        observer: Observer,
        *,
        weight: bool = False,
        channels: int | None = None,
        nonnegative: bool = False,
        skewed: bool = False,
    ) -> None:
        super().__init__()
        self.bits = bits
        self.observer: Observer = observer
        self.weight = weight
        self.channels = channels
        self.low, self.high = levels_of(bits, weight=weight, nonnegative=nonnegative)
        #: the level that stands for the largest magnitude when a range is chosen
        self.reach = self.high
        self._moves_levels = skewed and not nonnegative
        if self._moves_levels:
            self.register_buffer(LOWEST_LEVEL, torch.tensor([self.low]))
        self.mode: Literal["off", "observe", "quantize"] = "quantize"
        self.frozen = False
        #: the largest value there is (6 after a ReLU6); the scale never reaches beyond
        self.limit: float | None = None
        #: what share of the values the observer `percentile` covers, in per cent
        self.percentile = PERCENTILE
        #: with the observers `auto` and `lsq`, the ranges to choose from
        self.candidates: dict[Observer, float] = {}
        self._histogram: MagnitudeHistogram | None = None
        self._passed = False
        initial = torch.full((channels or 1,), -math.log(self.high))
        if observer == "lsq":
            self.log_scale = nn.Parameter(initial)
        else:
            self.register_buffer("log_scale", initial)

    def extra_repr(self) -> str:
        kind = "weight" if self.weight else "activation"
        per = "per tensor" if self.channels is None else f"{self.channels} channels"
        return f"{kind}, bits={self.bits}, observer={self.observer}, {per}"

    def _move_levels(self, below: tuple[float, float], above: tuple[float, float]) -> None:
        """Share the levels out to both sides of 0 as images reach there, the two that reach farthest on each."""
        steps = 2**self.bits - 1
        # The next image may reach farther than the first by as much as that reaches farther than the second.
        (first, second), (farther, _) = sorted((below, above))
        nearer = 2 * first - second
        smaller = max(_LEAST_SHARE, nearer / (nearer + farther))
        if smaller > _WORTH_MOVING:
            self._take_levels(levels_of(self.bits)[0])
            return
        fewer = math.ceil(steps * smaller)
        self._take_levels(-fewer if below < above else fewer - steps)

    def _take_levels(self, low: int) -> None:
        self.low, self.high = low, low + 2**self.bits - 1
        self.reach = max(-self.low, self.high)
        self.get_buffer(LOWEST_LEVEL).fill_(low)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        if self._moves_levels:
            # States of networks whose levels could not move yet say nothing of them.
            symmetric = torch.tensor([levels_of(self.bits)[0]])
            low = state_dict.setdefault(prefix + LOWEST_LEVEL, symmetric)
            self._take_levels(int(low))
        super()._load_from_state_dict(state_dict, prefix, *others)

    @property
    def scale(self) -> Tensor:
        """Return the step between two levels, always positive. (1,) or (C,), float32."""
        lowest, highest = _LOG_SCALE_LIMITS
        if self.limit is not None:
            highest = math.log(self.limit / self.high)
        return self.log_scale.float().clamp(lowest, highest).exp()

    def set_range(self, largest: Tensor) -> None:
        """Choose the scale so that the level `reach` stands for `largest`, (1,) or (C,)."""
        with torch.no_grad():
            ranges = without_empty_channels(largest.to(self.log_scale.device))
            self.log_scale.copy_((ranges / self.reach).log())

    def set_limit(self, limit: float) -> None:
        """Clip values at `limit`: rounding then clips as well."""
        self.limit = limit

    def observe_weight(self, weight: Tensor) -> None:
        """Choose the scale for a weight (C, ...) as it is now."""
        rows = weight if self.channels is not None else weight.reshape(1, -1)
        plain = self.observer in ("minmax", "moving-average", "auto")
        self.set_range(channel_maxima(rows) if plain else best_channel_ranges(rows, self.reach))

    def make_room(self, bias: Tensor | None, input_scale: Tensor) -> None:
        """Enlarge a weight's scale where the bias, in steps of input scale * weight scale, would overflow int32.

        Args:
            bias: (C,), or None.
            input_scale: (1,).
        """
        if bias is None:
            return
        with torch.no_grad():
            lowest = bias.detach().float().abs() / (input_scale * 2.0**30)
            if self.channels is None:
                lowest = lowest.max().view(1)
            self.log_scale.copy_(torch.maximum(self.log_scale, lowest.clamp(min=TINY).log()))

    @property
    def has_observed(self) -> bool:
        """Return whether anything passed since :meth:`start_observing`."""
        return self._histogram is not None and self._passed

    def start_observing(self) -> None:
        """Record the values that pass from now on."""
        self.mode = "observe"
        self._passed = False
        self._histogram = MagnitudeHistogram()

    def stop_observing(self) -> bool:
        """Choose the scale from what was recorded, and round from now on. Return False if only zeros were seen."""
        histogram, self._histogram = self._histogram, None
        self.mode = "quantize"
        if histogram is None or histogram.largest <= TINY:
            return False
        if self._moves_levels:
            self._move_levels(histogram.below, histogram.above)
        if self.observer in ("auto", "lsq"):
            self.candidates = {
                name: histogram.range(name, self.reach, self.percentile) for name in CANDIDATES
            }
        self.set_range(torch.tensor([histogram.range(self.observer, self.reach, self.percentile)]))
        return True

    def freeze(self) -> None:
        """Keep the scale as it is from now on, in training too."""
        self.frozen = True
        if isinstance(self.log_scale, nn.Parameter):
            value = self.log_scale.detach().clone()
            del self.log_scale
            self.register_buffer("log_scale", value)

    def _follow(self, x: Tensor) -> None:
        """Let an observed range follow training: Jacob et al., section 3.1."""
        with torch.no_grad():
            if self.weight:
                self.observe_weight(x)
            elif self.observer == "moving-average":
                now = (x.detach().abs().amax().float().clamp(min=TINY) / self.reach).log()
                mean = torch.logaddexp(
                    self.log_scale + math.log(1 - MOMENTUM), now.view(1) + math.log(MOMENTUM)
                )
                self.log_scale.copy_(mean)

    def forward(self, x: Tensor) -> Tensor:
        if self.mode != "quantize":
            x = x if self.limit is None else x.clamp(max=self.limit)
            if self.mode == "observe" and self._histogram is not None:
                self._histogram.add(x)
                self._passed = True
            return x
        if self.training and not self.frozen and self.observer in ("minmax", "moving-average"):
            self._follow(x)
        return fake_round(x, self.scale, self.low, self.high)


class Requantize(nn.Module):
    """Marks a tensor whose values already lie on a quantizer's levels (a pooled map, a part of a concat).

    Computes nothing in training. In the exported file it is a QuantizeLinear/DequantizeLinear pair with the
    owner's scale, without which an engine would compute the operator before it in float.
    """

    def __init__(self, owner: FakeQuantize) -> None:
        super().__init__()
        # In a tuple, so that the owner's state is not registered twice.
        self._owner = (owner,)

    @property
    def owner(self) -> FakeQuantize:
        """Return the quantizer whose scale is used."""
        return self._owner[0]

    def forward(self, x: Tensor) -> Tensor:
        return x
