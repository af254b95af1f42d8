"""Progress of long-running work, without a word about how it is shown."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Where long work tells of its progress. Techniques print nothing; they call this."""

    def note(self, message: str) -> None:
        """One line worth reading."""

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        """A task of `total` units (None if unknown) begins; it replaces the task before. Unit "s" is seconds."""

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        """The task went on by `amount`; `figures` are shown beside the bar (loss=0.031)."""

    def finish(self) -> None:
        """The task is done."""


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
