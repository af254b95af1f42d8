"""Which candidates of a round are trained further, by what they cost and by all that was measured before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.search.goals import goal_weights
from zoo.search.halving import promoted, share_promoted

if TYPE_CHECKING:
    from zoo.search.outcome import Outcome
    from zoo.search.search_result import Point
    from zoo.search.study_log import SearchCandidate


def promoted_candidates(
    able: Sequence[SearchCandidate],
    points: Sequence[Point],
    candidates: Sequence[SearchCandidate],
    steps: int,
    next_steps: int,
    reference: float,
) -> list[SearchCandidate]:
    """Return the candidates that are trained further, best first.

    Args:
        able: Those that further training may bring within the budgets.
        points: What each of them achieved after `steps`.
        candidates: All of the search.
        steps: Of each training, in this round.
        next_steps: The same in the next one.
        reference: Latency of the original in seconds.
    """
    if not points:
        return []
    goals = list(points[0].values)
    others = _outcomes([each for each in candidates if each not in able], steps)
    known = [tuple(each.value(goal, reference) for goal in goals) for each in others]
    values = [tuple(point.values.values()) for point in points]
    violations = [max([0.0, *point.violations.values()]) for point in points]
    share = share_promoted(mean_cost(candidates, steps), mean_cost(candidates, next_steps))
    return [
        able[place] for place in promoted(values, violations, goal_weights(goals), known=known, share=share)
    ]


def _outcomes(candidates: Sequence[SearchCandidate], steps: int) -> list[Outcome]:
    """Return what came of candidates that were trained for so many steps."""
    found = (each.outcomes.get(steps) for each in candidates)
    return [each for each in found if each is not None and not each.error and not each.counted]


def mean_cost(candidates: Sequence[SearchCandidate], steps: int) -> float:
    """Return the mean seconds of a processor that a candidate with a training took; 0 if there was none."""
    costs = [each.processor_seconds for each in _outcomes(candidates, steps) if each.trainings]
    return sum(costs) / len(costs) if costs else 0.0
