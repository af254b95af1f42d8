"""The study of a search in Optuna's storage: every candidate, what was drawn for it, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from zoo.errors import UsageError
from zoo.extras import require
from zoo.recipes.canonical import ResolvedRecipe, resolve
from zoo.search.domains import Axis
from zoo.search.importances import importances
from zoo.search.outcome import Outcome
from zoo.search.space import Space
from zoo.search.study_storage import collector_paused, open_study, opening, while_reachable

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

Sampler = Literal["tpe", "nsga2", "random"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)

_CANDIDATE, _OUTCOME, _REFUSED = "candidate", "outcome", "refused"


@dataclass
class SearchCandidate:
    """A recipe that the study proposed.

    Attributes:
        number: In the study.
        recipe: As it was drawn.
        canonical: Its canonical form; equal recipes have equal ones.
        outcomes: What came of it, by the steps of each training.
        open: Whether more is to be found out about it.
    """

    number: int
    recipe: str
    canonical: str
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    open: bool = True

    @property
    def last(self) -> Outcome | None:
        """Return the outcome of the longest training that did not fail; None if there is none."""
        return max(
            (each for each in self.outcomes.values() if not each.error), key=lambda e: e.steps, default=None
        )

    @property
    def counted(self) -> bool:
        """Return whether counts alone rejected it, so that nothing was carried out."""
        return any(each.counted for each in self.outcomes.values())

    @property
    def failed(self) -> bool:
        """Return whether anything failed."""
        return any(each.error for each in self.outcomes.values())

    def resolve(self) -> ResolvedRecipe:
        """Return its recipe with the techniques loaded."""
        return resolve(self.recipe)


class StudyLog:
    """The candidates of one search, in the order in which they were proposed.

    Only one process writes to a study. A process that is killed leaves a study that the next one continues: every
    sampler is seeded by the seed and the number of the trial, so that interruptions change nothing.

    Args:
        url: Of any storage that Optuna knows.
        name: Of the study.
        goals: How many values are minimised.
        sampler: What proposes candidates.
        seed: Of every random choice.

    Attributes:
        candidates: Those that were drawn and are legal.
        refused: How many draws were illegal, or repeated an earlier one.
        streak: How many of them came last, one after the other.
        beyond_in_a_row: How many candidates that counts alone rejected came last, one after the other.

    Raises:
        InputError: The storage cannot be reached.
        MissingDependencyError: Optuna is not installed.
    """

    def __init__(self, url: str, name: str, goals: int, sampler: Sampler, seed: int) -> None:
        require("optuna", "Searching", extra="search")
        self.url = url
        self._sampler: Sampler = sampler
        self._seed = seed
        self.candidates: list[SearchCandidate] = []
        self.refused = 0
        self._trials: dict[int, int] = {}
        self._unfinished: list[FrozenTrial] = []
        self._again: list[dict[str, Any]] = []
        self._known: set[str] = set()
        self._enqueued = False
        self.streak = 0
        self.beyond_in_a_row = 0
        with opening(url), collector_paused():
            self._study = open_study(url, name, goals)
            for trial in self._study.get_trials(deepcopy=False):
                self._read(trial)
        self._total = len(self._trials)

    # ------------------------------------------------------------------------------------------ proposing

    @property
    def proposed(self) -> int:
        """Return how many trials the study has, refused ones included."""
        return self._total

    @while_reachable
    def ask(
        self, space: Space, *, setting: Mapping[str, int] | None = None, randomly: bool = False
    ) -> SearchCandidate | None:
        """Return a new candidate; None if what was drawn is illegal or a repetition.

        Args:
            space: What is drawn from.
            setting: Places on the axes that are settled already, by their names.
            randomly: Draw at random, whatever the sampler.
        """
        number = self._unfinished[0].number if self._unfinished else self._total
        self._study.sampler = self._make_sampler("random" if randomly else self._sampler, number)
        if self._unfinished:  # what was being drawn when the last process was killed
            self._unfinished.pop(0)
            trial = self._trial(number)
        else:
            if self._again and not self._enqueued:
                self._study.enqueue_trial(self._again.pop())
            elif setting is not None and not self._enqueued:
                values = {
                    axis.name: _value(axis, setting[axis.name]) for axis in space.axes if axis.name in setting
                }
                self._study.enqueue_trial(values)
            trial = self._study.ask()
            self._enqueued = False
            self._total += 1
        self._trials[trial.number] = trial._trial_id
        try:
            drawn = space.draw(lambda axis: _suggest(trial, axis))
        except UsageError as error:
            self._refuse(trial, error.message)
            return None
        canonical = str(drawn)
        if canonical in self._known:
            self._refuse(trial, "repeats an earlier candidate")
            return None
        trial.set_user_attr(_CANDIDATE, [str(drawn.written), canonical])
        candidate = SearchCandidate(trial.number, str(drawn.written), canonical)
        self._keep(candidate)
        self.streak = 0
        return candidate

    @property
    def waiting(self) -> int:
        """Return how many candidates will be proposed again, whatever else is."""
        return len(self._again)

    def propose_again(self, candidate: SearchCandidate) -> None:
        """Forget a candidate, and propose its recipe once more."""
        self.candidates.remove(candidate)
        self._known.discard(candidate.canonical)
        self._again.append(dict(self._trial(candidate.number).params))

    # ------------------------------------------------------------------------------------------ results

    @while_reachable
    def record(self, candidate: SearchCandidate, outcome: Outcome) -> None:
        """Keep an outcome; the candidate stays open."""
        candidate.outcomes[outcome.steps] = outcome
        if outcome.counted:
            self.beyond_in_a_row += 1
        storage, trial = self._study._storage, self._trials[candidate.number]
        storage.set_trial_user_attr(trial, f"{_OUTCOME}:{outcome.steps}", outcome.to_json())

    @while_reachable
    def close(
        self, candidate: SearchCandidate, values: Sequence[float] | None, violations: Sequence[float] = ()
    ) -> None:
        """Finish a candidate.

        Args:
            candidate: Which one.
            values: What is minimised; None for one that failed.
            violations: By how much each budget is exceeded; negative where it is kept.
        """
        from optuna.trial import TrialState

        candidate.open = False
        if values is None:
            self._study.tell(candidate.number, state=TrialState.FAIL)
            return
        trial = self._trial(candidate.number)
        for place, violation in enumerate(violations):
            trial.set_constraint(f"budget {place}", violation)
        self._study.tell(candidate.number, list(values))

    def importances(self, place: int) -> dict[str, float]:
        """Return how much each axis explains of the value at `place`, by name; empty where nothing can be said."""
        return importances(self._study, place, {each.number for each in self.candidates if each.counted})

    # ------------------------------------------------------------------------------------------ details

    def _read(self, trial: FrozenTrial) -> None:
        from optuna.trial import TrialState

        attributes = trial.user_attrs
        if trial.state is TrialState.WAITING:
            self._enqueued = True
            return
        self._trials[trial.number] = trial._trial_id
        if _CANDIDATE not in attributes:
            if trial.state is TrialState.RUNNING:
                self._unfinished.append(trial)
            else:
                self.refused += 1
                self.streak += 1
            return
        self.streak = 0
        outcomes = [
            Outcome.from_json(value) for name, value in attributes.items() if name.startswith(f"{_OUTCOME}:")
        ]
        recipe, canonical = attributes[_CANDIDATE]
        candidate = SearchCandidate(
            trial.number,
            recipe,
            canonical,
            {each.steps: each for each in outcomes},
            trial.state is TrialState.RUNNING,
        )
        self.beyond_in_a_row = self.beyond_in_a_row + 1 if candidate.counted else 0
        self._keep(candidate)

    def _keep(self, candidate: SearchCandidate) -> None:
        self.candidates.append(candidate)
        self._known.add(candidate.canonical)

    def _refuse(self, trial: Trial, reason: str) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr(_REFUSED, reason)
        self._study.tell(trial, state=TrialState.FAIL)
        self.refused += 1
        self.streak += 1

    def _trial(self, number: int) -> Trial:
        from optuna.trial import Trial

        return Trial(self._study, self._trials[number])

    def _make_sampler(self, kind: Sampler, number: int) -> BaseSampler:
        from optuna import samplers

        seed = (self._seed * 1_000_003 + number) % 2**32
        if kind == "random":
            return samplers.RandomSampler(seed=seed)
        if kind == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=20)
        # Open trials are not looked at: repetitions are refused anyway, and reading them for each choice costs most.
        return samplers.TPESampler(seed=seed, constant_liar=False)


def _suggest(trial: Trial, axis: Axis) -> int:
    if not axis.ordered:
        return axis.labels.index(trial.suggest_categorical(axis.name, axis.labels))
    last = axis.low + axis.step * (len(axis) - 1)
    value = trial.suggest_float(axis.name, float(axis.low), float(last), step=float(axis.step))
    return round((value - float(axis.low)) / float(axis.step))


def _value(axis: Axis, place: int) -> Any:
    return float(axis.low + axis.step * place) if axis.ordered else axis.labels[place]
