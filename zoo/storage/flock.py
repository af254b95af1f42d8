"""Locks on open files, which the system takes back when a process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def try_lock(descriptor: int) -> bool:
    """Return whether the lock on an open file was free and is now ours; it goes when all copies of it are closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def same_file(descriptor: int, path: Path) -> bool:
    """Return whether `path` is still the open file: after waiting, a lock may be that of a removed file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
