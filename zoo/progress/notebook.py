"""Progress in the cell of a notebook: a line for each task, which changes until the task is done."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from zoo.formatting import printable
from zoo.progress.lines import LineReporter

#: Seconds between two changes of a line.
_INTERVAL = 0.25


class NotebookReporter(LineReporter):
    """Shows one line for each task below the cell, which needs no widgets; notes are printed between them."""

    interval: ClassVar[float] = _INTERVAL

    def __init__(self) -> None:
        super().__init__()
        self._display: Any = importlib.import_module("IPython.display").display
        self._shown: Any = None

    def note(self, message: str) -> None:
        print(printable(message), flush=True)  # noqa: T201

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        self.finish()
        self._shown = None
        super().start(task, total, unit)

    def show(self, line: str) -> None:
        content = {"text/plain": printable(line)}
        if self._shown is None:
            self._shown = self._display(content, raw=True, display_id=True)
        else:
            self._shown.update(content, raw=True)
