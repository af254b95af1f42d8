"""Progress as lines of text, and what lines and bars say of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import ClassVar

from zoo.contracts import SilentReporter
from zoo.formatting import printable, scaled, seconds

#: Seconds between two lines where there is no terminal.
LINE_INTERVAL = 10.0


class NoteReporter(SilentReporter):
    """Prints notes, and nothing about the progress of tasks."""

    def note(self, message: str) -> None:
        print(printable(message), file=sys.stderr, flush=True)  # noqa: T201


class LineReporter(NoteReporter):
    """Prints a line when a task starts, every LINE_INTERVAL seconds, and when it is done."""

    interval: ClassVar[float] = LINE_INTERVAL

    def __init__(self) -> None:
        super().__init__()
        self._task = ""
        self._total: float | None = None
        self._unit = "steps"
        self._done = 0.0
        self._figures: dict[str, float | str] = {}
        self._started = self._printed = 0.0

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        self.finish()
        self._task, self._total, self._unit, self._done, self._figures = task, total, unit, 0.0, {}
        self._started = self._printed = time.monotonic()
        self.show(f"{task} ..." if total is None else f"{task}: {amount_of(total, unit)} ...")

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        self._done += amount
        self._figures.update(figures)
        if self._task and time.monotonic() - self._printed >= self.interval:
            self._printed = time.monotonic()
            self.show(self._line())

    def finish(self) -> None:
        if self._task:
            self.show(f"{self._line()}, took {seconds(time.monotonic() - self._started)}")
            self._task = ""

    def show(self, line: str) -> None:
        """Show how far the task is."""
        self.note(line)

    def _line(self) -> str:
        elapsed = time.monotonic() - self._started
        rate = self._done / elapsed if elapsed > 0 else 0.0
        parts = [progress_of(self._done, self._total, self._unit)]
        if rate and self._unit != "s":
            parts.append(rate_of(rate, self._unit))
        if rate and self._total is not None and self._done < self._total:
            parts.append(f"{seconds((self._total - self._done) / rate)} left")
        if self._figures:
            parts.append(format_figures(self._figures))
        return f"{self._task}: {', '.join(parts)}"


def amount_of(amount: float, unit: str) -> str:
    """Format an amount: ``120 steps``, ``17 images``; a duration for the unit "s", a size for "B"."""
    if unit == "s":
        return seconds(amount)
    return scaled(amount, unit) if unit == "B" else f"{amount:,.0f} {unit}"


def rate_of(rate: float, unit: str) -> str:
    """Format a rate: ``3.21/s``, ``12.5 MB/s``."""
    return f"{scaled(rate, 'B')}/s" if unit == "B" else f"{rate:.3g}/s"


def progress_of(done: float, total: float | None, unit: str) -> str:
    """Format progress: ``12 of 120 steps``, ``1:20 of 38:00``; without a total, only the amount done."""
    if total is None:
        return amount_of(done, unit)
    shown = amount_of(done, unit) if unit in ("s", "B") else f"{done:,.0f}"
    return f"{shown} of {amount_of(total, unit)}"


def format_figures(figures: Mapping[str, float | str]) -> str:
    """Format figures: ``loss 0.0312  psnr 24.1``."""
    return "  ".join(
        f"{name} {value}" if isinstance(value, str) else f"{name} {value:.4g}"
        for name, value in figures.items()
    )
