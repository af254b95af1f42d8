"""Progress of long work: a bar on a terminal, a line that changes in a notebook, occasional lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Reporter, SilentReporter
from zoo.formatting import printable, scaled, seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

#: Seconds between two lines where there is no terminal.
LINE_INTERVAL = 10.0


@contextlib.contextmanager
def progress(*, quiet: bool = False) -> Iterator[Reporter]:
    """Yield a reporter for the duration of one command; with `quiet` it shows only notes."""
    if quiet:
        yield NoteReporter()
    elif in_notebook():
        from zoo.progress.notebook import NotebookReporter

        with warnings.catch_warnings():
            # what tqdm says where there are no widgets: it is not used
            warnings.filterwarnings("ignore", message="IProgress not found")
            yield NotebookReporter()
    elif sys.stderr.isatty():
        with _rich_progress() as bars:
            yield BarReporter(bars)
    else:
        yield LineReporter()


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, where progress is shown in the cell."""
    return "ipykernel" in sys.modules and "IPython" in sys.modules


class NoteReporter(SilentReporter):
    """Prints notes, and nothing about the progress of tasks."""

    def note(self, message: str) -> None:
        print(printable(message), file=sys.stderr, flush=True)  # noqa: T201


class BarReporter:
    """Draws a bar with the rate, the remaining time and the figures; notes scroll above it."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def note(self, message: str) -> None:
        self._bars.console.print(printable(message), markup=False, highlight=False, soft_wrap=True)

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        self.finish()
        self._task = self._bars.add_task(printable(task), total=total, figures="", unit=unit)

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        if self._task is not None:
            self._bars.update(self._task, advance=amount)
            if figures:
                self._bars.update(self._task, figures=format_figures(figures))

    def finish(self) -> None:
        if self._task is not None:
            self._bars.stop_task(self._task)
            self._task = None


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


#: Below this many columns of the terminal, rates and figures make way for the bar, the amount and the time left.
_WIDE_ENOUGH = 80
#: The longest bar, in columns.
_LONGEST_BAR = 24


def _rich_progress(console: Console | None = None) -> Progress:
    """Return bars that stay legible from 60 columns on: labels and figures are shortened, nothing else is."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.progress_bar import ProgressBar
    from rich.table import Column
    from rich.text import Text

    shown_on = console or Console(stderr=True)

    class ShortenedColumn(ProgressColumn):
        """Takes the room that the other columns leave."""

        def get_table_column(self) -> Column:
            return Column(no_wrap=False)  # rich narrows only columns that may wrap; the text itself does not

        def render(self, task: Task) -> Text:
            return Text(self.text(task), no_wrap=True, overflow="ellipsis")

        def text(self, task: Task) -> str:
            return task.description

    class FiguresColumn(ShortenedColumn):
        def text(self, task: Task) -> str:
            return str(task.fields["figures"]) if shown_on.width >= _WIDE_ENOUGH else ""

    class FittingBarColumn(BarColumn):
        def render(self, task: Task) -> ProgressBar:
            self.bar_width = min(shown_on.width // 5, _LONGEST_BAR)
            return super().render(task)

    class AmountColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(progress_of(task.completed, task.total, task.fields["unit"]))

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            unit = task.fields["unit"]
            shown = speed and unit != "s" and shown_on.width >= _WIDE_ENOUGH
            return Text(rate_of(speed, unit) if speed and shown else "")

    class RemainingColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{seconds(task.time_remaining)} left" if task.time_remaining else "")

    rigid = Column(no_wrap=True)
    return Progress(
        ShortenedColumn(),
        FittingBarColumn(table_column=rigid.copy()),
        AmountColumn(table_column=rigid.copy()),
        RateColumn(table_column=rigid.copy()),
        RemainingColumn(table_column=rigid.copy()),
        FiguresColumn(),
        console=shown_on,
    )
