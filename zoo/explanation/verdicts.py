"""Figures put into words: what a range wastes or cuts off, and why one range is better than another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zoo.explanation.report import TIE_DB

if TYPE_CHECKING:
    from zoo.explanation.report import Choice
    from zoo.explanation.tensor_statistics import Distribution

#: The few values that a range is said to be stretched for.
_FEW = 0.001
#: From how many bits or which share on a note is worth its line.
_MANY_BITS = 1.5
_MUCH = 0.5


def describe_problems(
    choice: Choice, bits: int, distribution: Distribution, *, signed: bool
) -> tuple[str, ...]:
    """Return sentences about problems in how one tensor is rounded; empty if there are none."""
    found = []
    usual = distribution.magnitude_of(1 - _FEW)
    outliers = math.log2(choice.range / usual) if usual > 0 and choice.range > 0 else 0.0
    largest = max(-distribution.least, distribution.largest)
    if outliers >= _MANY_BITS:
        found.append(
            f"spends {outliers:.1f} of {bits} bits on {_percent(_FEW)} of the values: "
            f"range {three_digits(choice.range)}, {_percent(1 - _FEW)} of them within {three_digits(usual)}"
        )
        if largest < choice.range / 2:
            found.append(f"no value exceeded {three_digits(largest)} at all")
    if choice.clipping >= _MUCH:
        found.append(
            f"{_percent(choice.clipping)} of the error is clipping: {_percent(choice.clipped)} of the values lie "
            f"beyond {three_digits(choice.range)}, up to {three_digits(largest)}"
        )
    if signed and distribution.least >= 0 < largest:
        found.append("never negative, so half of its levels are idle")
    return tuple(found)


def explain_difference(first: Choice, second: Choice, bits: int, distribution: Distribution) -> str:
    """Return why the better of two choices is better, as a sentence."""
    if abs(first.sqnr_db - second.sqnr_db) < TIE_DB or first.sqnr_db == second.sqnr_db:
        return (
            f"no significant difference: ranges {three_digits(first.range)} and {three_digits(second.range)}"
        )
    better, worse = (first, second) if first.sqnr_db > second.sqnr_db else (second, first)
    beyond = distribution.share_beyond(min(better.range, worse.range))
    if worse.range > better.range * 1.001:
        spent = math.log2(worse.range / better.range)
        if not better.clipped:
            return (
                f"{worse.label} reaches to {three_digits(worse.range)}, but no value exceeded {better.label}'s "
                f"{three_digits(better.range)}: {spent:.1f} of its {bits} bits are unused"
            )
        return (
            f"{worse.label} spends {spent:.1f} of {bits} bits on {_percent(beyond)} of the values: range "
            f"{three_digits(worse.range)}, the others within {three_digits(better.range)}, where {better.label} clips"
        )
    if worse.range < better.range * 0.999:
        return (
            f"{worse.label} clips {_percent(worse.clipped)} of the values at {three_digits(worse.range)}, "
            f"and these make {_percent(worse.clipping)} of its error; "
            f"{better.label} reaches to {three_digits(better.range)}"
        )
    return (
        f"the same range, {three_digits(better.range)}; {better.label} places its steps better: "
        "ranges by channel, or other values upstream"
    )


def three_digits(value: float) -> str:
    """Return `value` with three significant digits."""
    return f"{value:.3g}"


def _percent(share: float) -> str:
    percent = 100 * share
    if 99 < percent < 99.995:
        return f"{percent:.{2 if percent > 99.9 else 1}f} %"
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"
