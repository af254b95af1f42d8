"""Minutes that all trainings of a recipe share."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.training.schedule import Budget


class SharedMinutes:
    """The budgets of the trainings, in order; time that one leaves or exceeds changes the later ones in proportion.

    Budgets in steps stay as they were planned.

    Args:
        planned: One budget for each training.
    """

    def __init__(self, planned: Sequence[Budget]) -> None:
        self._planned = list(planned)
        self._timed = False
        self._left = sum(budget.minutes or 0.0 for budget in planned)

    def next(self) -> Budget:
        """Return the budget of the next training."""
        outstanding = sum(budget.minutes or 0.0 for budget in self._planned)
        budget = self._planned.pop(0)
        self._timed = bool(budget.minutes)
        if not budget.minutes:
            return budget
        return Budget(minutes=self._left * budget.minutes / outstanding)

    def spend(self, seconds: float) -> None:
        """Take off the time that the training of the last budget took."""
        if self._timed:
            self._left = max(self._left - seconds / 60, 0.0)
