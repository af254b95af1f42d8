"""Collecting scores over images, and how far chance moves them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.contracts import FloatArray, TargetArray

    Compare = Callable[[FloatArray, TargetArray], Mapping[str, float]]

#: Of the normal distribution, for 95 %.
Z95 = 1.959963984540054


class MeanScorer:
    """Scores that each image has by itself, and their means over the images.

    Args:
        compare: Called with an output and its target; returns the value of each measure by its key.
        shares: Keys of measures that are 0 or 1 for an image, whose mean is a share with a known interval.
    """

    def __init__(self, compare: Compare, shares: tuple[str, ...] = ()) -> None:
        self._compare, self._shares = compare, shares
        self._values: dict[str, list[float]] = {}

    def add(self, prediction: FloatArray, target: TargetArray) -> Mapping[str, float]:
        """Compare an output, such as (C, H, W), with its target, and return the scores of the image."""
        values = self._compare(prediction, target)
        for key, value in values.items():
            self._values.setdefault(key, []).append(value)
        return values

    def result(self) -> Mapping[str, float]:
        """Return the means over the images."""
        return {key: math.fsum(values) / len(values) for key, values in self._values.items()}

    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """Return the Wilson interval of each share."""
        return {
            key: wilson_interval(math.fsum(values), len(values))
            for key, values in self._values.items()
            if key in self._shares
        }


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Args:
        successes: How many of the trials succeeded.
        trials: At least 1.
    """
    share, z2 = successes / trials, Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return 0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half
