"""How long to train, and how fast to learn at each step."""

from __future__ import annotations

import math
import time
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

    With minutes, the number of steps is fixed once, before the learning rate starts to fall, from the rate seen
    so far. The same run with that number of steps then learns at the same rates: it can be reproduced exactly.
    """

    def __init__(self, budget: Budget, elapsed: float = 0.0, total: int | None = None) -> None:
        self.total = budget.steps if budget.steps is not None else total
        self._seconds = None if budget.minutes is None else budget.minutes * 60
        self._started = time.monotonic() - elapsed

    @property
    def timed(self) -> bool:
        """Whether the budget was given as time."""
        return self._seconds is not None

    @property
    def length(self) -> float | None:
        """The length of the run: seconds if it was given as time, else steps."""
        return self._seconds if self._seconds is not None else self.total

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, those before a resume counted in."""
        return time.monotonic() - self._started

    def plan(self, step: int) -> None:
        """Fix the number of steps once enough time has passed."""
        if self.total is not None or self._seconds is None:
            return
        elapsed = self.elapsed
        if elapsed >= _PLAN_AT * self._seconds:
            rest = max(self._seconds - elapsed, 0.0)
            # never fewer than makes the hold end here: the steps already done were made at the full rate
            self.total = max(step + round(step * rest / max(elapsed, 1e-9)), math.ceil(step / _HOLD))

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
