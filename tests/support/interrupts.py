"""Ctrl-C at a chosen moment."""

from __future__ import annotations

from zoo.contracts import SilentReporter


class StopsAt(SilentReporter):
    """Presses Ctrl-C when the named task has shown progress."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = task
        self.now = ""

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        self.now = task

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        if self.now == self.task:
            raise KeyboardInterrupt
