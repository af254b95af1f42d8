"""How many processors this process may use, and of what kind."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """Processors this process may run on: its affinity, cut down to a container's quota; at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    quota = _quota()
    return max(1, count if quota is None else min(count, int(quota)))


def _quota() -> float | None:
    """Processors the control group grants, None for all."""
    try:
        granted, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            granted = (_CGROUP / "cpu/cpu.cfs_quota_us").read_text()
            period = (_CGROUP / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        share = int(granted) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return share if share > 0 else None


def multiplies_unsigned() -> bool:
    """Whether this processor's int8 instructions multiply unsigned by signed, as those of x86 do."""
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686", "x86")
