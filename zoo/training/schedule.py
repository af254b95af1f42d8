"""How long to train, and how fast to learn at each step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from zoo.errors import UsageError

Precision = Literal["auto", "float32", "bfloat16"]
_WARM_UP = 50
#: the learning rate stays constant up to this share of the steps, then falls
_HOLD = 0.5
_FLOOR = 0.01
#: a run given minutes fixes its number of steps when this share of them has gone by
_PLAN_AT = 0.45
#: share of the minutes that a plan fills: what is left absorbs small changes of speed
_FILL = 0.97
#: the speed is measured over at least this share of the minutes
_WINDOW = 0.1


@dataclass(frozen=True)
class Budget:
    """Either a number of steps or of minutes."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError(
                "Training needs either steps or minutes.", hint="Give one of: --steps N, --minutes M"
            )
        if self.steps is not None and self.steps < 0:
            raise UsageError(f"--steps must not be negative, got {self.steps}.")
        if self.minutes is not None and not 0 <= self.minutes < math.inf:
            raise UsageError(f"--minutes must be a positive number, got {self.minutes}.")

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.steps is not None else f"{self.minutes:g} min"

    def share(self, part: float) -> Budget:
        """Return the given share of this budget."""
        if self.steps is not None:
            return Budget(steps=round(self.steps * part))
        assert self.minutes is not None
        return Budget(minutes=self.minutes * part)


class Schedule:
    """Learning rate and end of a run.

    With minutes, the number of steps is fixed before the learning rate starts to fall, from the rate seen so far.
    The same run with that number of steps then learns at the same rates: it can be reproduced exactly. Minutes are a
    limit, though: if the machine becomes so slow that the plan would exceed them, the number of steps is reduced.
    """

    def __init__(
        self,
        budget: Budget,
        elapsed: float = 0.0,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = budget.steps if budget.steps is not None else total
        self._seconds = None if budget.minutes is None else budget.minutes * 60
        self._clock = clock
        self._started = clock() - elapsed
        self._mark: tuple[int, float] | None = None
        self._pace = 0.0

    @property
    def timed(self) -> bool:
        """Return whether the budget was given as time."""
        return self._seconds is not None

    @property
    def length(self) -> float | None:
        """Return the length of the run: seconds if it was given as time, else steps."""
        return self._seconds if self._seconds is not None else self.total

    @property
    def elapsed(self) -> float:
        """Return the seconds of training so far, those before a resume included."""
        return self._clock() - self._started

    def plan(self, step: int) -> None:
        """Fix the number of steps once enough time has passed; reduce it if the machine became slower since."""
        if self._seconds is None:
            return
        elapsed = self.elapsed
        if self.total is None:
            if elapsed < _PLAN_AT * self._seconds or (self._seconds and not step):
                return
            self._pace = elapsed / max(step, 1)
            # at least twice the steps already done: those were made at the full rate, and half of the steps are
            self.total = max(step + self._possible(elapsed), math.ceil(step / _HOLD))
        self._measure_pace(step, elapsed)
        if elapsed >= self._seconds:
            self.total = min(self.total, step)
        elif elapsed + (self.total - step) * self._pace > self._seconds:
            self.total = min(self.total, step + self._possible(elapsed))

    def _possible(self, elapsed: float) -> int:
        """Return the number of steps that fit into the time left."""
        assert self._seconds is not None
        return max(round((_FILL * self._seconds - elapsed) / max(self._pace, 1e-9)), 0)

    def _measure_pace(self, step: int, elapsed: float) -> None:
        """Measure the seconds per step over the last window."""
        assert self._seconds is not None
        if self._mark is None:
            self._mark = step, elapsed
        since, started = self._mark
        if step > since and elapsed - started >= _WINDOW * self._seconds:
            self._pace = (elapsed - started) / (step - since)
            self._mark = step, elapsed

    def done(self, step: int) -> bool:
        """Return whether `step` steps complete the training."""
        return self.total is not None and step >= self.total

    def factor(self, step: int) -> float:
        """Return the factor of the base learning rate at `step`."""
        warm = min(1.0, (step + 1) / _WARM_UP)
        if self.total is None or step < _HOLD * self.total:
            return warm
        progress = (step / self.total - _HOLD) / (1 - _HOLD)
        return warm * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
