"""Which of several candidates are not beaten by any other in everything."""

from __future__ import annotations

import math
from collections.abc import Sequence

Values = Sequence[float]


def dominates(first: Values, second: Values) -> bool:
    """Return whether the first is nowhere worse (larger) and somewhere better."""
    return _covers(first, second) and tuple(first) != tuple(second)


def _covers(first: Values, second: Values) -> bool:
    """Return whether the first is nowhere worse (larger)."""
    return all(a <= b for a, b in zip(first, second, strict=True))


def pareto_front(points: Sequence[Values]) -> list[int]:
    """Return the places of the points that no other dominates, in order; of equal points, the first."""
    front: list[int] = []
    # What dominates a point comes before it in this order, and so does a point of the front that dominates it.
    for place in sorted(range(len(points)), key=lambda each: (tuple(points[each]), each)):
        if not any(_covers(points[other], points[place]) for other in front):
            front.append(place)
    return sorted(front)


def ranked(points: Sequence[Values]) -> list[int]:
    """Return the places of all points, best first: front by front, and in a front those nearest to the ideal."""
    ideal = [min(values) for values in zip(*points, strict=True)]
    spans = [max(values) - min(values) or 1.0 for values in zip(*points, strict=True)]

    def distance(place: int) -> float:
        return math.fsum(
            ((value - i) / s) * ((value - i) / s)
            for value, i, s in zip(points[place], ideal, spans, strict=True)
        )

    left, order = list(range(len(points))), []
    while left:
        front = {left[each] for each in pareto_front([points[place] for place in left])}
        order += sorted(front, key=lambda place: (distance(place), place))
        left = [place for place in left if place not in front]
    return order


def knee(points: Sequence[Values]) -> int:
    """Return the place of the point nearest to the ideal one, where each value spans 0 to 1 over the points."""
    return ranked(points)[0]
