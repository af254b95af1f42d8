"""Successive halving: many candidates are trained briefly, the best of them longer, and few in full.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoo.search.front import Values, ranked

#: A candidate in this many is trained further, for this many times the steps.
ETA = 3
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


def promoted(points: Sequence[Values], violations: Sequence[float], eta: int = ETA) -> list[int]:
    """Return the places of the candidates that are trained further, best first.

    Args:
        points: What is minimised, for each candidate.
        violations: By how much each exceeds budgets that training may still bring it into; 0 if none.
        eta: One in this many goes on, and at least one.
    """
    if not points:
        return []
    keeping = [place for place in range(len(points)) if violations[place] <= 0]
    exceeding = sorted(set(range(len(points))) - set(keeping), key=lambda place: (violations[place], place))
    best = [keeping[place] for place in ranked([points[place] for place in keeping])] if keeping else []
    return (best + exceeding)[: math.ceil(len(points) / eta)]
