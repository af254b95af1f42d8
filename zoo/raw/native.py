"""Keeping what LibRaw prints off the terminal, and reading it: it tells of damage that LibRaw passes over."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

_LONGEST = 4096
#: File descriptor 2 belongs to the whole process: one capture at a time.
_lock = threading.Lock()


@contextlib.contextmanager
def native_messages() -> Iterator[list[str]]:
    """Collect the lines that native code writes to standard error; they are in the list after the body.

    What Python writes to `sys.stderr` meanwhile (a progress bar in another thread) goes where it always goes.
    """
    lines: list[str] = []
    with _lock:
        try:
            terminal = os.dup(2)
        except OSError:  # standard error is closed: nothing can leak
            yield lines
            return
        python_stderr = sys.stderr
        with tempfile.TemporaryFile() as captured:
            try:
                os.dup2(captured.fileno(), 2)
                if _writes_to_descriptor_2(python_stderr):
                    sys.stderr = open(terminal, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
                yield lines
            finally:
                if sys.stderr is not python_stderr:
                    sys.stderr.flush()
                    sys.stderr = python_stderr
                os.dup2(terminal, 2)
                os.close(terminal)
                captured.seek(0)
                lines += captured.read(_LONGEST).decode(errors="replace").splitlines()


def _writes_to_descriptor_2(stream: object) -> bool:
    try:
        return isinstance(stream, io.TextIOBase) and stream.fileno() == 2
    except (OSError, ValueError):
        return False
