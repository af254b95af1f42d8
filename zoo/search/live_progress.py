"""What a search shows while it goes on: the best of each goal, and when it ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.formatting import seconds
from zoo.search.goals import Goal, heading, show_goal

if TYPE_CHECKING:
    from zoo.contracts import Reporter
    from zoo.search.search_request import SearchRequest
    from zoo.search.search_result import Point, SearchResult


class LiveProgress:
    """Reports the progress of one search.

    Args:
        request: The search.
        reporter: Where it is reported.
    """

    def __init__(self, request: SearchRequest, reporter: Reporter) -> None:
        self._request = request
        self._reporter = reporter
        self._records: dict[Goal, str] = {}

    def start(self, total: int, done: int) -> None:
        """Begin with so many candidates in all, of which some were done by an earlier process."""
        self._reporter.start("search", total, "candidates")
        self._reporter.advance(done)

    def carried_out(self, points: Iterable[Point], left: float) -> None:
        """Show the best of each goal among the points that keep the budgets.

        Args:
            points: All that were measured.
            left: Seconds until the time of the search is over.
        """
        feasible = [each for each in points if each.feasible]
        best = {
            self._name(goal): show_goal(
                goal, *min((each.values[goal], each.outcome.unit) for each in feasible)
            )
            for goal in self._request.goals
            if feasible
        }
        self._reporter.advance(0, **best, **{"ends in": seconds(max(left, 0.0))})

    def closed(self) -> None:
        """Count a candidate of which no more is to be found out."""
        self._reporter.advance(1)

    def records(self, result: SearchResult) -> None:
        """Note which recipes are the best in one goal now, and were not before."""
        for goal in self._request.goals:
            best = min(result.front, key=lambda point: point.values[goal], default=None)
            if best is not None and best.folder_name != self._records.get(goal):
                self._records[goal] = best.folder_name
                value = show_goal(goal, best.values[goal], best.outcome.unit)
                steps = f", {best.outcome.steps} steps" if best.outcome.trainings else ""
                self._reporter.note(
                    f"least {self._name(goal)} so far: {value} by {best.outcome.recipe}{steps}"
                )

    def _name(self, goal: Goal) -> str:
        return heading(goal, predicted=bool(self._request.latency_model))
