"""Observers as they are named on the command line, and the ranges that they choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from zoo.errors import UsageError
from zoo.extras import require
from zoo.quantization.observers import PERCENTILE, Magnitudes, Observer
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.explanation.rounding_rule import RoundingRule

#: Observers that can be compared: those of `ptq`.
OBSERVERS = ("minmax", "moving-average", "percentile", "entropy", "mse")


@dataclass(frozen=True)
class ObserverRule:
    """An observer with its one option, written `percentile` or `percentile=99.9`."""

    observer: Observer
    percentile: float = PERCENTILE

    @classmethod
    def parse(cls, text: str) -> ObserverRule:
        """Parse an observer such as ``mse`` or a percentile.

        Raises:
            UsageError: The observer does not exist, or the percentile is out of range.
        """
        name, _, value = text.strip().partition("=")
        if name not in OBSERVERS:
            raise UsageError(
                f"No observer is called '{name[:40]}'{did_you_mean(name, OBSERVERS) or '.'}",
                hint=f"There are {', '.join(OBSERVERS)}:  zoo explain ARTIFACT --compare minmax,mse",
            )
        if not value:
            return cls(cast(Observer, name))
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if name != "percentile" or not 50 <= share <= 100:
            raise UsageError(
                f"'{text[:40]}' is not an observer: only percentile has a value, from 50 to 100.",
                hint="For example:  --compare minmax,percentile=99.9",
            )
        return cls(cast(Observer, name), share)

    def __str__(self) -> str:
        return self.observer if self.percentile == PERCENTILE else f"{self.observer}={self.percentile:g}"

    def of_activation(self, magnitudes: Magnitudes, rounding: RoundingRule) -> RoundingRule:
        """Return the rounding whose range is chosen for counted values; not all of them may be zeros."""
        return rounding.reaching(np.array([magnitudes.range(self.observer, rounding.steps, self.percentile)]))

    def of_weight(self, weight: npt.NDArray[np.float32], rounding: RoundingRule) -> RoundingRule:
        """Return the rounding whose range is chosen for each channel, or for the whole weight.

        The range is chosen by squared error, or is the largest magnitude.

        Args:
            weight: (outputs, ...).
            rounding: The rule whose range is replaced.
        """
        axis = rounding.axis
        rows = weight.reshape(1, -1)
        if axis is not None:
            rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
        ranges = np.abs(rows).max(1)
        if self.by_error:
            torch = require("torch", "Choosing ranges of weights by squared error")
            from zoo.quantization.ranges import best_channel_ranges

            contiguous = torch.from_numpy(np.ascontiguousarray(rows))
            ranges = best_channel_ranges(contiguous, rounding.steps).numpy()
        return rounding.reaching(
            np.maximum(ranges.astype(np.float64), max(float(ranges.max()), 1e-12) * 2**-16)
        )

    @property
    def by_error(self) -> bool:
        """Return whether it chooses ranges of weights too; the others take the largest magnitude of a weight."""
        return self.observer == "mse"


def parse_observer_rules(text: str) -> tuple[ObserverRule, ObserverRule]:
    """Return two observers from ``minmax,mse``.

    Raises:
        UsageError: There are not two different ones.
    """
    rules = [ObserverRule.parse(part) for part in text.split(",")]
    if len(rules) != 2 or rules[0] == rules[1]:
        raise UsageError(
            f"--compare needs two different observers, not '{text[:60]}'.",
            hint="For example:  --compare minmax,mse",
        )
    return rules[0], rules[1]
