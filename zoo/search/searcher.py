"""The search: propose, measure cheaply, train what is promising, and keep what nothing beats."""

from __future__ import annotations

import itertools
import random
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.errors import NoEffectError, UsageError
from zoo.pipeline.loss_limit import LossLimit
from zoo.recipes.grammar import Recipe
from zoo.search.candidate_run import CandidateRun, candidate_run
from zoo.search.front import pareto_front
from zoo.search.goals import EXACT, show_goal
from zoo.search.halving import bracket_size, promoted, rungs
from zoo.search.outcome import Outcome
from zoo.search.search_request import SearchRequest
from zoo.search.search_result import TRIALS, Point, SearchResult, folder_name, write_front
from zoo.search.space import Space
from zoo.search.study_log import SearchCandidate, StudyLog

if TYPE_CHECKING:
    from zoo.contracts import Reporter
    from zoo.search.workers import Workers

#: Draws that were illegal or repetitions, one after the other, until a space counts as searched, and until they are
#: made at random.
_EXHAUSTED, _DRAW_RANDOMLY = 60, 10
#: Settings at the ends of all ranges that a search begins with.
_CORNERS = 8
#: Where trained stages are kept in the folder of a search.
_STAGES = "stages"


class Searcher:
    """One search in a folder, which continues what an earlier process left there.

    Args:
        request: What to search.
        space: The space.
        log: Its study.
        workers: What carries candidates out.
        reporter: Where progress is reported.
    """

    def __init__(
        self, request: SearchRequest, space: Space, log: StudyLog, workers: Workers, reporter: Reporter
    ) -> None:
        self.request = request
        self.space = space
        self.log = log
        self._workers = workers
        self._reporter = reporter
        self._started = time.monotonic()
        self._spent = (
            sum(each.seconds for c in log.candidates for each in c.outcomes.values()) / workers.count
        )
        self._rungs = rungs(request.steps)
        self._settings = self._first_settings()
        self._base = request.base(_any_recipe(space))

    # ------------------------------------------------------------------------------------------ running

    def run(self) -> SearchResult:
        """Search until there are enough candidates, the time is over or the space is searched.

        Raises:
            UsageError: No recipe of the space can keep the budgets.
        """
        self._reporter.start("search", self.limit, "candidates")
        self._reporter.advance(sum(not each.open for each in self.log.candidates))
        while (bracket := self._bracket()) and not self._over():
            self._carry_out(bracket)
            if self._over():
                break
            self._refuse_hopeless()
            self._close(bracket)
        self._reporter.finish()
        return self.result()

    @property
    def limit(self) -> int:
        """Return how many candidates there will be at most."""
        return min(self.request.trials, self.space.size)

    def result(self) -> SearchResult:
        """Return what is known so far."""
        points = self.points()
        feasible = [each for each in points if each.feasible]
        front = [
            feasible[place] for place in pareto_front([tuple(each.values.values()) for each in feasible])
        ]
        first = self.request.goals[0]
        full = self._rungs[-1]
        candidates = self.log.candidates
        trainable = [
            c for c in candidates if full and any(o.trainings and not o.error for o in c.outcomes.values())
        ]
        trained = [c for c in trainable if full in c.outcomes and full not in _reused(c)]
        saved = [c for c in trainable if full not in c.outcomes and not c.open]
        return SearchResult(
            points,
            sorted(front, key=lambda each: each.values[first]),
            [each for each in candidates if each.failed],
            len(trained),
            len(saved),
            sum(self._beyond(each) for each in saved),
            sum(each.seconds for c in candidates for each in c.outcomes.values()),
        )

    def points(self) -> list[Point]:
        """Return every measured outcome."""
        reference = self._reference()
        return [
            self._point(candidate, outcome, reference)
            for candidate in self.log.candidates
            for _, outcome in sorted(candidate.outcomes.items())
            if not outcome.error
        ]

    # ------------------------------------------------------------------------------------------ proposing

    def _bracket(self) -> list[SearchCandidate]:
        """Return the candidates that are compared next, open ones of an interrupted search first."""
        found = [each for each in self.log.candidates if each.open]
        if any(each.outcomes for each in found):
            return found
        size = bracket_size(self.request.steps, self._workers.count)
        while len(found) < size and len(self.log.candidates) < self.limit and self.log.streak < _EXHAUSTED:
            number = self.log.proposed
            setting = self._settings[number] if number < len(self._settings) else None
            if setting is None and len(self._settings) >= self.space.size:
                break
            candidate = self.log.ask(self.space, setting=setting, randomly=self.log.streak >= _DRAW_RANDOMLY)
            if candidate is not None:
                found.append(candidate)
        return found

    def _first_settings(self) -> list[dict[str, int]]:
        """Return every setting of a space that is small enough, else some at the ends of all ranges."""
        if self.space.structures is not None and self.space.size <= self.request.trials:
            return list(self.space.every())
        corners = list(itertools.islice(self.space.corners(), 5000))
        if len(corners) > _CORNERS:
            corners = random.Random(self.request.seed).sample(corners, _CORNERS)
        return corners

    # ------------------------------------------------------------------------------------------ measuring

    def _carry_out(self, bracket: Sequence[SearchCandidate]) -> None:
        left = list(bracket)
        for rung, steps in enumerate(self._rungs):
            self._measure([each for each in left if steps not in each.outcomes], steps)
            if self._over() or rung == len(self._rungs) - 1:
                return
            left = self._promoted(left, steps)

    def _measure(self, candidates: Sequence[SearchCandidate], steps: int) -> None:
        runs = [self._run(each, steps) for each in candidates]

        def done(place: int, outcome: Outcome) -> None:
            candidate = candidates[place]
            self.log.record(candidate, outcome)
            if outcome.error:
                self._reporter.note(f"{candidate.recipe} failed: {outcome.error}")
            self._reporter.advance(0, **self._best())

        self._workers.carry_out(runs, done, self._over)

    def _run(self, candidate: SearchCandidate, steps: int) -> CandidateRun:
        folder = self.request.folder
        out = folder / TRIALS / folder_name(candidate, steps)
        return candidate_run(self._base, candidate.resolve(), steps, out, folder / _STAGES)

    def _promoted(self, candidates: Sequence[SearchCandidate], steps: int) -> list[SearchCandidate]:
        """Return the candidates that are trained next, of those that training can bring within the budgets."""
        able = [
            each
            for each in candidates
            if (outcome := each.outcomes.get(steps)) and outcome.trainings and not outcome.error
            and not self._beyond(each)
        ]  # fmt: skip
        reference = self._reference()
        points = [self._point(each, each.outcomes[steps], reference) for each in able]
        values = [tuple(point.values.values()) for point in points]
        violations = [max([0.0, *point.violations.values()]) for point in points]
        return [able[place] for place in promoted(values, violations)]

    def _beyond(self, candidate: SearchCandidate) -> bool:
        """Return whether a budget is exceeded in a way that no training changes."""
        outcome = candidate.last
        return outcome is not None and any(
            outcome.value(goal, 0.0) > limit for goal, limit in self.request.limits.items() if goal in EXACT
        )

    def _close(self, bracket: Sequence[SearchCandidate]) -> None:
        reference = self._reference()
        for candidate in bracket:
            outcome = candidate.last
            if outcome is None:
                self.log.close(candidate, None)
            else:
                point = self._point(candidate, outcome, reference)
                self.log.close(candidate, list(point.values.values()), list(point.violations.values()))
            self._reporter.advance(1)
        result = self.result()
        kept = {each.folder_name for each in result.front}
        for folder in (self.request.folder / TRIALS).glob("*"):
            if folder.name not in kept and folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
        write_front(self.request, result)

    def _refuse_hopeless(self) -> None:
        """Refuse budgets that no recipe keeps by its exact counts, naming the nearest.

        Raises:
            UsageError: All settings, or all that are at the ends of their ranges, were counted, and none keeps them.
        """
        exact = {goal: limit for goal, limit in self.request.limits.items() if goal in EXACT}
        corners = sum(1 for _ in itertools.islice(self.space.corners(), _CORNERS + 1))
        if not exact or corners > _CORNERS or self.log.proposed < min(len(self._settings), corners):
            return
        counted = [each for each in self.log.candidates if each.last is not None]
        if not counted or any(not self._beyond(each) for each in counted):
            return

        def miss(candidate: SearchCandidate) -> float:
            outcome = candidate.last
            assert outcome is not None
            return max(outcome.value(goal, 0.0) / limit for goal, limit in exact.items())

        nearest = min(counted, key=miss)
        assert nearest.last is not None
        stated = ", ".join(
            f"{goal} {show_goal(goal, nearest.last.value(goal, 0.0))} (budget {show_goal(goal, limit)})"
            for goal, limit in exact.items()
        )
        raise UsageError(
            f"No recipe of the space {self.space.written} keeps the budget: its extremes were counted. The nearest is "
            f"{nearest.recipe}: {stated}.",
            hint="Widen --space, or raise the budget; what was counted is kept in the folder.",
        )

    # ------------------------------------------------------------------------------------------ details

    def _over(self) -> bool:
        return self._spent + time.monotonic() - self._started >= self.request.minutes * 60

    def _reference(self) -> float:
        """Return the median latency of the original, as the first candidate measured it."""
        outcomes = (
            each for c in self.log.candidates for _, each in sorted(c.outcomes.items()) if not each.error
        )
        return next((each.latency_before for each in outcomes), 0.0)

    def _point(self, candidate: SearchCandidate, outcome: Outcome, reference: float) -> Point:
        values = {goal: outcome.value(goal, reference) for goal in self.request.goals}
        violations = {
            goal: outcome.value(goal, reference) / limit - 1 for goal, limit in self.request.limits.items()
        }
        most = _most_loss(self.request.loss_limit, outcome)
        if most is not None:
            violations["score"] = (outcome.lost - most) / max(abs(most), 1e-3)
        return Point(candidate, outcome, values, violations)

    def _best(self) -> dict[str, str]:
        points = [each for each in self.points() if each.feasible]
        return {
            goal: show_goal(goal, *min((each.values[goal], each.outcome.unit) for each in points))
            for goal in self.request.goals
            if points
        }


def _any_recipe(space: Space) -> Recipe:
    seed = 0
    while True:  # a space in which nothing is valid was refused
        try:
            return space.draw_at_random(seed).written
        except UsageError:
            seed += 1


def _reused(candidate: SearchCandidate) -> set[int]:
    """Return the steps for which every training of the candidate was another's."""
    return {
        steps
        for steps, each in candidate.outcomes.items()
        if each.trainings and len(each.reused) >= each.trainings
    }


def _most_loss(limit: LossLimit | None, outcome: Outcome) -> float | None:
    if limit is None or not limit.stated:
        return None
    if limit.unit not in (None, outcome.unit):
        raise NoEffectError(
            f"--max-loss is counted in {limit.unit}, but {outcome.measure} in {outcome.unit or 'units'}."
        )
    return limit.most
