"""Successive halving: many candidates are trained briefly, the best of them longer, and few in full.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from zoo.search.front import Values, pareto_front

#: A candidate in this many is trained further at least, for this many times the steps.
ETA = 3
#: By how much the costs of two rounds differ at least.
_APART = 2
#: Rounds of training at most, the full one included.
_ROUNDS = 3


def rungs(steps: int) -> tuple[int, ...]:
    """Return the steps of each round, the first of which trains nothing: (0, 22, 66, 200) for 200."""
    lengths = {steps // ETA**round_ for round_ in range(_ROUNDS)} - {0}
    return (0, *sorted(lengths)) if lengths else (0,)


def bracket_size(steps: int, workers: int) -> int:
    """Return how many candidates are compared at once: as many as leave each worker one to train in full."""
    rounds = len(rungs(steps)) - 1
    return max(workers, 1) if rounds == 0 else ETA**2 * math.ceil(workers / ETA)


def worthwhile_rungs(rungs: Sequence[int], cost: float, full_cost: float) -> tuple[int, ...]:
    """Return the rounds that train, without those that take about as long as the one before or as training in full.

    Args:
        rungs: As :func:`rungs` returns them.
        cost: Of a candidate that is not trained, in seconds; 0 if unknown.
        full_cost: Of one that is trained in full.
    """
    if cost <= 0 or full_cost <= 0:
        return tuple(rungs[1:])
    kept, last = [], cost
    for steps in rungs[1:-1]:
        expected = cost + (full_cost - cost) * steps / rungs[-1]
        if last * _APART <= expected <= full_cost / _APART:
            kept.append(steps)
            last = expected
    return (*kept, *rungs[1:][-1:])


def share_promoted(cost: float, next_cost: float) -> float:
    """Return what share of the candidates of a round is trained further.

    A round costs as much as the one before: where training takes little beside exporting and scoring, more go on.

    Args:
        cost: Of a candidate in this round, in seconds; 0 if unknown.
        next_cost: In the next one.
    """
    if cost <= 0 or next_cost <= 0:
        return 1 / ETA
    return min(max(cost / next_cost, 1 / ETA), 1.0)


def promoted(
    points: Sequence[Values],
    violations: Sequence[float],
    weights: Sequence[float] = (),
    *,
    known: Sequence[Values] = (),
    share: float = 1 / ETA,
) -> list[int]:
    """Return the places of the candidates that are trained further, best first.

    Best is what no other candidate beats, and among those what is nearest to the best in everything. Distances are
    counted in ranks among all that is known: otherwise one candidate that loses everything would make all others alike.

    Args:
        points: What is minimised, for each candidate.
        violations: By how much each exceeds budgets that training may still bring it into; 0 if none.
        weights: How much each value counts; all alike if empty.
        known: The same values of earlier candidates after as many steps.
        share: Of the candidates that go on; at least one does.
    """
    if not points:
        return []
    weights = weights or [1.0] * len(points[0])
    sorted_values = [sorted(values) for values in zip(*points, *known, strict=True)]
    distances = [
        math.fsum(
            weight * (bisect.bisect_left(values, value) / len(values)) ** 2
            for weight, values, value in zip(weights, sorted_values, point, strict=True)
        )
        for point in points
    ]
    order: list[int] = []
    keeping = [place for place in range(len(points)) if violations[place] <= 0]
    while keeping:
        front = {keeping[each] for each in pareto_front([points[place] for place in keeping])}
        order += sorted(front, key=lambda place: (distances[place], place))
        keeping = [place for place in keeping if place not in front]
    exceeding = set(range(len(points))) - set(order)
    order += sorted(exceeding, key=lambda place: (violations[place], distances[place], place))
    return order[: math.ceil(len(points) * share - 1e-9)]
