"""Keeping standard output clean: what others print while we work goes to standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what is written to standard output within the context, by child processes too, to standard error.

    The file descriptor is redirected too, because native code and child processes do not ask Python.
    """
    with contextlib.redirect_stdout(sys.stderr):
        saved = _divert()
        try:
            yield
        finally:
            if saved is not None:
                os.dup2(saved, 1)
                os.close(saved)


def _divert() -> int | None:
    """Point file descriptor 1 at standard error; the descriptor to restore, or None if either is closed."""
    try:
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
        saved = os.dup(1)
    except (OSError, ValueError):
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(saved)
        return None
    return saved
