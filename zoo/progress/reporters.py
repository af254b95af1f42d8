"""Progress of long work: a bar on a terminal, a line that changes in a notebook, occasional lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.contracts import Reporter
from zoo.formatting import printable, seconds
from zoo.progress.lines import LineReporter, NoteReporter, format_figures, progress_of, rate_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


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
