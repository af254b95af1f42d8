"""The search: propose, measure cheaply, train what is promising, and keep what nothing beats."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.errors import NoEffectError
from zoo.pipeline.loss_limit import LossLimit
from zoo.search.candidate_run import CandidateRun, candidate_run
from zoo.search.exact_budgets import ExactBudgets
from zoo.search.first_settings import first_settings
from zoo.search.front import pareto_front
from zoo.search.halving import bracket_size, rungs, worthwhile_rungs
from zoo.search.live_progress import LiveProgress
from zoo.search.outcome import Outcome
from zoo.search.promotion import mean_cost, promoted_candidates
from zoo.search.search_request import SearchRequest
from zoo.search.search_result import TRIALS, Point, SearchResult, folder_name, write_front
from zoo.search.space import Space
from zoo.search.study_log import SearchCandidate, StudyLog

if TYPE_CHECKING:
    from zoo.benchmarking.latency_model import LatencyModel
    from zoo.contracts import Reporter
    from zoo.search.exact_counts import ExactCounts
    from zoo.search.workers import Workers

#: Draws that were illegal or repetitions, one after the other, until a space counts as searched, and until they are
#: made at random.
_EXHAUSTED, _DRAW_RANDOMLY = 60, 3
#: Candidates rejected by their counts, one after the other, until a space counts as searched.
_HOPELESS = 300
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
        counts: Counts what recipes cost before they are carried out; None to find out by carrying them out.
        latency_model: Predicts latencies; None to measure them.
    """

    def __init__(
        self,
        request: SearchRequest,
        space: Space,
        log: StudyLog,
        workers: Workers,
        reporter: Reporter,
        counts: ExactCounts | None = None,
        latency_model: LatencyModel | None = None,
    ) -> None:
        self.request = request
        self.space = space
        self.log = log
        self._workers = workers
        self._live = LiveProgress(request, reporter)
        self._latency_model = latency_model
        self._reporter = reporter
        self._started = time.monotonic()
        self._spent = (
            sum(each.seconds for c in log.candidates for each in c.outcomes.values()) / workers.count
        )
        self._rungs = rungs(request.steps)
        self._first = first_settings(space, request.trials, request.seed)
        self._base = request.base(space.example.written)
        self._budgets = ExactBudgets(request, space, counts)
        for candidate in [each for each in log.candidates if each.counted]:
            if not self._budgets.exceeded_by(candidate):
                log.propose_again(candidate)  # the budget was raised

    # ------------------------------------------------------------------------------------------ running

    def run(self) -> SearchResult:
        """Search until there are enough candidates, the time is over or the space is searched.

        Raises:
            UsageError: No recipe of the space can keep the budgets.
        """
        if not self.log.candidates:
            self._budgets.refuse_at_once()
        self._live.start(self.limit, sum(not each.open and not each.counted for each in self.log.candidates))
        while (bracket := self._bracket()) and not self._over():
            self._carry_out(bracket)
            if self._over():
                break
            self._budgets.refuse_hopeless(
                self.log.candidates, self.log.proposed >= len(self._first.settings) >= self.space.size
            )
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
            sum(self._budgets.exceeded_by(each) for each in saved),
            sum(each.counted for each in candidates),
            sum(each.seconds for c in candidates for each in c.outcomes.values()),
        )

    def points(self) -> list[Point]:
        """Return every measured outcome."""
        reference = self._reference()
        return [
            self._point(candidate, outcome, reference)
            for candidate in self.log.candidates
            for _, outcome in sorted(candidate.outcomes.items())
            if not outcome.error and not outcome.counted
        ]

    # ------------------------------------------------------------------------------------------ proposing

    def _bracket(self) -> list[SearchCandidate]:
        """Return the candidates that are compared next, open ones of an interrupted search first."""
        found = [each for each in self.log.candidates if each.open]
        for each in [each for each in found if each.counted]:
            self._reject(each, each.outcomes[0])
            found.remove(each)
        if any(each.outcomes for each in found):
            return found
        size = bracket_size(self.request.steps, self._workers.count)
        while len(found) < size and self._may_propose():
            number = self.log.proposed
            setting = self._first.settings[number] if number < len(self._first.settings) else None
            if setting is None and len(self._first.settings) >= self.space.size and not self.log.waiting:
                break
            candidate = self.log.ask(self.space, setting=setting, randomly=self.log.streak >= _DRAW_RANDOMLY)
            if candidate is None:
                continue
            counted = self._budgets.count(candidate)
            if counted is None:
                self.log.beyond_in_a_row = 0
                found.append(candidate)
            else:
                self.log.record(candidate, counted)
                self._reject(candidate, counted)
        return found

    def _may_propose(self) -> bool:
        tried = sum(not each.counted for each in self.log.candidates)
        exhausted = self.log.streak >= _EXHAUSTED or self.log.beyond_in_a_row >= _HOPELESS
        return tried < self.limit and not exhausted and not self._over()

    def _reject(self, candidate: SearchCandidate, counted: Outcome) -> None:
        self.log.close(candidate, *self._budgets.closing_values(counted))

    # ------------------------------------------------------------------------------------------ measuring

    def _carry_out(self, bracket: Sequence[SearchCandidate]) -> None:
        self._measure(bracket, 0)
        # What one would try by hand is trained in full: every other recipe has to be better than that.
        plainest = [each for each in bracket if each.number in self._first.plainest]
        self._measure(self._able(plainest, 0), self._rungs[-1])
        left, steps = [each for each in bracket if each not in plainest], 0
        costs = (mean_cost(self.log.candidates, each) for each in (0, self._rungs[-1]))
        for next_steps in worthwhile_rungs(self._rungs, *costs):
            if self._over():
                return
            left = self._promoted(left, steps, next_steps)
            self._measure(left, next_steps)
            steps = next_steps

    def _measure(self, candidates: Sequence[SearchCandidate], steps: int) -> None:
        candidates = [each for each in candidates if steps not in each.outcomes]
        runs = [self._run(each, steps) for each in candidates]

        def done(place: int, outcome: Outcome) -> None:
            candidate = candidates[place]
            self.log.record(candidate, outcome)
            if outcome.error:
                self._reporter.note(f"{candidate.recipe} failed: {outcome.error}")
            self._live.carried_out(self.points(), self._left())

        self._workers.carry_out(runs, done, self._over)

    def _run(self, candidate: SearchCandidate, steps: int) -> CandidateRun:
        folder = self.request.folder
        out = folder / TRIALS / folder_name(candidate, steps)
        stages = folder / _STAGES
        return candidate_run(self._base, candidate.resolve(), steps, out, stages, self._latency_model)

    def _promoted(
        self, candidates: Sequence[SearchCandidate], steps: int, next_steps: int
    ) -> list[SearchCandidate]:
        """Return the candidates that are trained next, of those that training can bring within the budgets."""
        able = self._able(candidates, steps)
        reference = self._reference()
        points = [self._point(each, each.outcomes[steps], reference) for each in able]
        return promoted_candidates(able, points, self.log.candidates, steps, next_steps, reference)

    def _able(self, candidates: Sequence[SearchCandidate], steps: int) -> list[SearchCandidate]:
        """Return those that training changes, and can bring within the budgets."""
        return [
            each
            for each in candidates
            if (outcome := each.outcomes.get(steps)) and outcome.trainings and not outcome.error
            and not self._budgets.exceeded_by(each)
        ]  # fmt: skip

    def _close(self, bracket: Sequence[SearchCandidate]) -> None:
        reference = self._reference()
        for candidate in bracket:
            outcome = candidate.last
            if outcome is None:
                self.log.close(candidate, None)
            else:
                point = self._point(candidate, outcome, reference)
                self.log.close(candidate, list(point.values.values()), list(point.violations.values()))
            self._live.closed()
        result = self.result()
        self._live.records(result)
        kept = {each.folder_name for each in result.front}
        for folder in (self.request.folder / TRIALS).glob("*"):
            if folder.name not in kept and folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
        write_front(self.request, result)

    # ------------------------------------------------------------------------------------------ details

    def _over(self) -> bool:
        return self._left() <= 0

    def _left(self) -> float:
        """Return the seconds until the time is over."""
        return self.request.minutes * 60 - self._spent - (time.monotonic() - self._started)

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
