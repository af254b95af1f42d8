"""The interface for reporting progress, independent of how it is shown."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives the progress of long-running work. Techniques print nothing; they call this."""

    def note(self, message: str) -> None:
        """Report one line worth reading."""

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        """Begin a task of `total` units (None if unknown), in place of the last one. Unit "s" is seconds."""

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        """Advance the task by `amount`; `figures` are shown next to the bar (loss=0.031)."""

    def finish(self) -> None:
        """End the task."""


class SilentReporter:
    """A reporter that keeps the notes and shows nothing."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        pass

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        pass

    def finish(self) -> None:
        pass
