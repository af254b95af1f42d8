"""Budgets of what a file has before it is trained: which candidates exceed them, and whether all do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.errors import UsageError
from zoo.pipeline.stages import stages_of
from zoo.search.exact_counts import beyond
from zoo.search.goals import EXACT, Goal, show_goal
from zoo.search.outcome import Outcome

if TYPE_CHECKING:
    from zoo.search.exact_counts import Counts, ExactCounts
    from zoo.search.search_request import SearchRequest
    from zoo.search.space import Space
    from zoo.search.study_log import SearchCandidate

#: Settings at the ends of all ranges that are counted, or carried out, before all count as hopeless.
_MOST_COUNTED, _MOST_CARRIED_OUT = 64, 8


class ExactBudgets:
    """The budgets of a search that no training changes.

    Args:
        request: The search.
        space: Its space.
        counts: Counts what recipes cost before they are carried out; None to find out by carrying them out.
    """

    def __init__(self, request: SearchRequest, space: Space, counts: ExactCounts | None) -> None:
        self._request = request
        self._space = space
        self._limits = {goal: limit for goal, limit in request.limits.items() if goal in EXACT}
        self._counts = counts if self._limits else None

    def exceeded_by(self, candidate: SearchCandidate) -> bool:
        """Return whether what is known of a candidate exceeds a budget in a way that no training changes."""
        outcome = candidate.last
        return outcome is not None and any(
            outcome.value(goal, 0.0) > limit for goal, limit in self._limits.items()
        )

    def count(self, candidate: SearchCandidate) -> Outcome | None:
        """Return what is known of a candidate whose counts alone exceed a budget; None for others."""
        if self._counts is None:
            return None
        recipe = candidate.resolve()
        counts = self._counts.count(recipe)
        if counts is None or not beyond(counts, self._limits):
            return None
        trainings = sum(stage.trains for stage in stages_of(recipe.techniques))
        return Outcome(
            candidate.recipe, 0, trainings, counted=True, macs=counts.macs, size=counts.least_bytes,
            memory=counts.least_bytes,
        )  # fmt: skip

    def closing_values(self, outcome: Outcome) -> tuple[list[float], list[float]]:
        """Return what a study is told of an outcome that was only counted: values, and how far budgets are exceeded.

        Samplers compare such trials by the latter alone, so values that are not known are zero.
        """
        values = [outcome.value(goal, 0.0) if goal in EXACT else 0.0 for goal in self._request.goals]
        violations = [
            outcome.value(goal, 0.0) / limit - 1 if goal in EXACT else 0.0
            for goal, limit in self._request.limits.items()
        ]
        return values, violations

    def refuse_at_once(self) -> None:
        """Refuse budgets that no recipe keeps by its counts, before anything is carried out.

        Raises:
            UsageError: All settings at the ends of their ranges were counted, and none keeps the budgets.
        """
        if self._counts is None:
            return
        corners = list(itertools.islice(self._space.corners(), _MOST_COUNTED + 1))
        if not corners or len(corners) > _MOST_COUNTED:
            return
        misses: list[tuple[float, str, Counts]] = []
        # Where most techniques meet, a file is most likely to be small enough, which ends the counting.
        order = sorted(range(len(corners)), key=lambda place: (len(corners[place]), place), reverse=True)
        for setting in (corners[place] for place in order):
            try:
                recipe = self._space.draw(lambda axis, setting=setting: setting[axis.name])  # type: ignore[misc]
            except UsageError:
                continue
            counts = self._counts.count(recipe)
            exceeded = beyond(counts, self._limits) if counts is not None else None
            if counts is None or not exceeded:
                return
            misses.append((max(exceeded.values()), str(recipe.written), counts))
        if misses:
            _, nearest, counts = min(misses, key=lambda miss: miss[0])
            known = {goal: counts.value(goal) or 0.0 for goal in self._limits}
            self._refuse(nearest, known, {goal: "at least " for goal in known if goal != "macs"})

    def refuse_hopeless(self, candidates: Sequence[SearchCandidate], all_tried: bool) -> None:
        """Refuse budgets that no recipe keeps by what its file holds.

        Args:
            candidates: Those of the study.
            all_tried: Whether all settings of a small space were proposed.

        Raises:
            UsageError: All settings, or all that are at the ends of their ranges, were tried, and none keeps them.
        """
        known = [each for each in candidates if each.last is not None]
        if not self._limits or not known or any(not self.exceeded_by(each) for each in known):
            return
        corners = list(itertools.islice(self._space.corners(), _MOST_CARRIED_OUT + 1))
        if len(corners) > _MOST_CARRIED_OUT or not (all_tried or len(candidates) >= len(corners)):
            return

        def miss(outcome: Outcome) -> float:
            return max(outcome.value(goal, 0.0) / limit for goal, limit in self._limits.items())

        measured = [each.last for each in known if each.last is not None and not each.counted]
        if measured:
            nearest = min(measured, key=miss)
            self._refuse(nearest.recipe, {goal: nearest.value(goal, 0.0) for goal in self._limits}, {})

    def _refuse(self, nearest: str, known: Mapping[Goal, float], how: Mapping[Goal, str]) -> None:
        stated = ", ".join(
            f"{goal} {how.get(goal, '')}{show_goal(goal, value)} (budget {show_goal(goal, self._limits[goal])})"
            for goal, value in known.items()
        )
        raise UsageError(
            f"No recipe of the space {self._space.written} keeps the budget: its extremes were counted. The nearest is "
            f"{nearest}: {stated}.",
            hint="Widen --space, or raise the budget.",
        )
