"""A limit on the seconds that one call into another program's library may take, where nothing else could end it.

A network of a stranger may compute for ever, in C++, where no exception reaches. A process that was made to be ended,
as :func:`zoo.processes.fork.run_in_copy` makes one, has the system's alarm end it; others are left alone.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

_expendable = False


def let_time_limits_end_this_process() -> None:
    """Have :func:`at_most` end this process from now on."""
    global _expendable
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _expendable = True


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Have SIGALRM end this process if the body takes longer, and if it may be ended at all; not to be nested."""
    if not _expendable:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
