"""How much memory this process has used."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_rss_mb() -> float:
    """The largest resident set of this process so far, in MB of 2**20 bytes."""
    import resource

    try:
        # Linux's getrusage counts what the parent held before it started this program; this does not.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
