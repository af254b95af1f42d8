"""What `zoo explain` finds out: one report a tensor, and which of two ways to round is better where."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zoo.explanation.rounding_rule import Kind, RoundingRule
    from zoo.explanation.tensor_statistics import Distribution, RoundingError

#: Differences below this many decibels are none.
TIE_DB = 0.1


@dataclass(frozen=True)
class Choice:
    """One way to round a tensor, and what it costs.

    Attributes:
        label: The observer, or the artifact.
        low: The least value that a level stands for.
        high: The largest value that a level stands for.
        clipped: Share of values beyond.
        sqnr_db: Signal to error; infinite if nothing is lost.
        clipping: Share of the squared error that clipped values make.
    """

    label: str
    low: float
    high: float
    clipped: float
    sqnr_db: float
    clipping: float

    @classmethod
    def of(cls, label: str, damage: RoundingError, reach: tuple[float, float]) -> Choice:
        """Return the figures of a finished measurement."""
        return cls(label, *reach, damage.clipped, damage.sqnr_db, damage.clipping)

    @property
    def range(self) -> float:
        """Return the largest magnitude covered."""
        return max(-self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`; null for an infinite ratio."""
        return {
            "label": self.label,
            "range": [self.low, self.high],
            "clipped": self.clipped,
            "sqnr_db": finite_or_none(self.sqnr_db),
            "clipping_share_of_error": self.clipping,
        }


@dataclass(frozen=True)
class TensorReport:
    """A tensor as the file rounds it.

    Attributes:
        scale: The least and the largest one (of channels, or of run time).
        seen: The least and the largest value that came; None for a weight whose float values are not in the
            artifact.
        distribution: Of those values.
    """

    name: str
    kind: Kind
    bits: int
    channels: int
    scale: tuple[float, float]
    zero_point: tuple[int, int]
    choice: Choice | None
    distribution: Distribution | None
    notes: tuple[str, ...] = ()

    @property
    def seen(self) -> tuple[float, float] | None:
        spread = self.distribution
        return None if spread is None or spread.least > spread.largest else (spread.least, spread.largest)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        choice = self.choice.to_json() if self.choice else {"range": None, "clipped": None, "sqnr_db": None}
        choice.pop("label", None)
        return {
            "name": self.name,
            "kind": self.kind,
            "bits": self.bits,
            "channels": self.channels,
            "scale": list(self.scale),
            "zero_point": list(self.zero_point),
            **choice,
            "seen": list(self.seen) if self.seen else None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Comparison:
    """Two choices for one tensor.

    Attributes:
        reason: Why the better one is better, as a sentence.
    """

    name: str
    kind: Kind
    first: Choice
    second: Choice
    reason: str
    distribution: Distribution | None = None

    @property
    def gain_db(self) -> float:
        """Return by how many dB the second is better; negative if the first is."""
        if self.first.sqnr_db == self.second.sqnr_db:
            return 0.0
        return self.second.sqnr_db - self.first.sqnr_db

    @property
    def better(self) -> str | None:
        if abs(self.gain_db) < TIE_DB:
            return None
        return self.second.label if self.gain_db > 0 else self.first.label

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "name": self.name,
            "kind": self.kind,
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "gain_db": finite_or_none(self.gain_db),
            "better": self.better,
            "reason": self.reason,
        }


@dataclass
class Explanation:
    """All that was measured.

    Attributes:
        labels: What was compared, empty if nothing was.
    """

    artifact: str
    fingerprint: str
    engine: str
    data: str
    images: int
    tensors: list[TensorReport]
    passed_on: int
    labels: tuple[str, ...] = ()
    comparisons: list[Comparison] = field(default_factory=list)

    def wins(self) -> dict[str, int]:
        """Return how many tensors each label is better at; "tie" for the others."""
        counts = dict.fromkeys((*self.labels, "tie"), 0)
        for comparison in self.comparisons:
            counts[comparison.better or "tie"] += 1
        return counts

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        found: dict[str, Any] = {
            "artifact": self.artifact,
            "fingerprint": self.fingerprint,
            "engine": self.engine,
            "data": self.data,
            "images": self.images,
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "levels_passed_on": self.passed_on,
        }
        if self.labels:
            found["compared"] = {
                "labels": list(self.labels),
                "better": self.wins(),
                "tensors": [comparison.to_json() for comparison in self.comparisons],
            }
        return found


def finite_or_none(value: float) -> float | None:
    """Return `value`, or None for what JSON has no number for."""
    return value if math.isfinite(value) else None


def extremes(numbers: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return the least and the largest of some numbers, (...,) of any shape."""
    return float(np.min(numbers)), float(np.max(numbers))


def covered_range(
    rounding: RoundingRule, scales: list[float], zero_points: list[float]
) -> tuple[float, float]:
    """Return the range that `rounding` covers; for a dynamic one, its mean over the images."""
    if rounding.kind != "dynamic":
        return rounding.reach
    scale, zero = float(np.mean(scales)), float(np.mean(zero_points))
    return (rounding.low - zero) * scale, (rounding.high - zero) * scale
