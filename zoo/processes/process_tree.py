"""A process and those that it started: what they hold together, and their end (Linux)."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal


def process_tree(process: int) -> list[int]:
    """Return the ids of a process and of all that it started, as far as the kernel lists them; itself comes first."""
    found = [process]
    for each in found:
        with contextlib.suppress(OSError, ValueError):
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/children", "rb", buffering=0) as stream:
                    found += map(int, stream.read(1 << 16).split())
    return found


def held_by_tree(process: int) -> int:
    """Return the bytes in no file that a process holds, and those that it started.

    What a copy shares with the process that it was made from is counted twice.
    """
    total = 0
    for each in process_tree(process):
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{each}/statm", "rb", buffering=0) as stream:
                resident, in_files = map(int, stream.read(100).split()[1:3])
            total += (resident - in_files) * mmap.PAGESIZE
    return total


def kill_tree(process: int) -> None:
    """Kill a child of this process that has not been waited for, and all that it started."""
    for each in process_tree(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
