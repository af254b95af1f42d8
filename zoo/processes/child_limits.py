"""Limits that a child process gives itself, in time and in addresses, within those that it was started under."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_MB = 2**20


def end_with(parent: int) -> None:
    """Have the kernel (Linux) kill this process when the parent's thread ends."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be watched
        os._exit(0)


def die_with(parent: int) -> None:
    """Have the kernel (Linux) kill this process when the parent's thread ends, and first when memory runs out."""
    if not sys.platform.startswith("linux"):
        return
    end_with(parent)
    Path("/proc/self/oom_score_adj").write_text("1000")


def prepare_child(parent: int) -> None:
    """Let this process end with its parent and on Ctrl-C without a trace, and leave no core file."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group; the parent tells of it
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


class Ceiling:
    """The limits that this process was started under: what it sets itself may be lower, never higher."""

    def __init__(self) -> None:
        self._seconds = resource.getrlimit(resource.RLIMIT_CPU)
        self._addresses = resource.getrlimit(resource.RLIMIT_AS)
        self._data = resource.getrlimit(resource.RLIMIT_DATA)

    def limit_seconds(self, seconds: int) -> None:
        """Allow so many more seconds of the processor."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        spent = int(usage.ru_utime + usage.ru_stime) + 1
        self._set(resource.RLIMIT_CPU, spent + seconds, self._seconds)

    def limit_memory(self, memory: int) -> None:
        """Allow so many more bytes of addresses than this process takes now (Linux)."""
        if sys.platform.startswith("linux"):
            self._set(resource.RLIMIT_AS, addresses_held() + memory, self._addresses)

    def limit_data(self, memory: int) -> None:
        """Allow so many bytes of private memory in all, which files that are mapped do not count to (Linux)."""
        if sys.platform.startswith("linux"):
            self._set(resource.RLIMIT_DATA, memory, self._data)

    @staticmethod
    def _set(kind: int, wanted: int, before: tuple[int, int]) -> None:
        soft, hard = before
        most = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft)
        resource.setrlimit(kind, (most, hard))


def addresses_held() -> int:
    """Return the bytes of addresses that this process has mapped (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def tighter_than(seconds: float, memory: int) -> str:
    """Return the limit of this process (`ulimit`) that leaves a child less than it may need, as text; "" if none does.

    Args:
        seconds: Of the processor, that the child may need.
        memory: Bytes of addresses, that it may need.
    """
    most_seconds, _ = resource.getrlimit(resource.RLIMIT_CPU)
    if most_seconds != resource.RLIM_INFINITY and most_seconds < seconds:
        return f"{most_seconds} s of processor time (ulimit -t)"
    most_memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most_memory != resource.RLIM_INFINITY and most_memory < memory:
        return f"{most_memory // _MB} MB of addresses (ulimit -v)"
    return ""
