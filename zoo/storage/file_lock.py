"""A lock held by one process at a time; the others wait, and go on at once if that process dies."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from zoo.storage.atomic import writing
from zoo.storage.flock import same_file, try_lock

_POLL = 0.05
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def file_lock(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock `path` during the body; the file is removed afterwards.

    Args:
        path: The lock file, which is made if it does not exist.
        waiting: Called once if another process holds the lock.

    Raises:
        OutputError: The file cannot be made.
    """
    descriptor = acquire(path, waiting)
    try:
        yield
    finally:
        release(path, descriptor)


def acquire(path: Path, waiting: Callable[[], None] = lambda: None) -> int:
    """Wait for the lock of the file `path`, which is made if need be; return a descriptor that holds it."""
    waited = False
    while True:
        descriptor = try_acquire(path)
        if descriptor is not None:
            return descriptor
        if not waited:
            waited = True
            waiting()
        time.sleep(_POLL)


def try_acquire(path: Path) -> int | None:
    """Acquire without waiting; return None if another process holds the lock, or just gave it up."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, _FLAGS, 0o666)
    # Whoever held it may have removed it since it was opened: then it locks nobody out.
    if try_lock(descriptor) and same_file(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def release(path: Path, descriptor: int) -> None:
    """Remove the file and give up its lock, in this order, so that nobody gets the lock of a removed file."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    os.close(descriptor)
