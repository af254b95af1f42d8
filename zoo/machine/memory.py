"""How much memory this process has used, and how much it may use."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import re
import sys
from pathlib import Path

from zoo.errors import UsageError

#: Sizes as one writes them: of 1000 or of 1024, as their names say.
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
#: Of glibc's mallopt: what is freed and larger goes back at once; so much at the end of the heap stays.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_RETURNED, _KEPT = 1 << 20, 3 << 20
_STATUS = Path("/proc/self/status")


def peak_rss_mb() -> float:
    """Return the largest resident set of this process so far, in MB of 2**20 bytes."""
    import resource

    # Linux's getrusage counts what the parent held before it started this program; this does not.
    peak = _status("VmHWM")
    if peak is not None:
        return peak / 2**20
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 1024


def limit_of_process() -> int | None:
    """Return the bytes this process may still allocate under the limits of `ulimit` and `prlimit`; None without any.

    They count addresses rather than memory: what is mapped and was never touched too. What of that is there now, and
    is not held, is taken off.
    """
    import resource

    found = []
    for kind, counted in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(kind)
        now, held = _status(counted), _status("VmRSS")
        if most != resource.RLIM_INFINITY and now is not None and held is not None:
            found.append(max(0, most - now + held))
    return min(found, default=None)


def status_bytes(process: int, name: str) -> int:
    """Return a figure of another process's status in bytes, such as VmRSS; 0 where there is none."""
    return _status(name, Path(f"/proc/{process}/status")) or 0


def resident_bytes(process: int) -> int:
    """Return the resident set of another process in bytes, faster than its status does; 0 if there is none."""
    try:
        with open(f"/proc/{process}/statm", "rb", buffering=0) as stream:
            return int(stream.read(100).split()[1]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return 0


def return_freed_memory() -> None:
    """Have glibc give large arrays back to the system as soon as they are freed.

    By itself it keeps up to 64 MB of them, because it raises the size from which it does so to what was freed last.
    Smaller ones are kept for the next: to clear new pages takes longer than to fill them. Other libraries are left as
    they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _RETURNED)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def return_heap() -> None:
    """Give all of the heap that is free now back to the system, where glibc can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def parse_size(text: str) -> int:
    """Return the bytes of "512MB", "1.5 GiB" or "400000000".

    Raises:
        UsageError: The text is anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", text, re.IGNORECASE)
    unit = (match[2].upper() or "B") if match else ""
    unit = unit if unit.endswith("B") else unit + "B"
    if match is None or unit not in _UNITS or float(match[1]) <= 0:
        raise UsageError(f"'{text}' is not a memory size.", hint="Write it as in 512MB or 1.5GiB.")
    return round(float(match[1]) * _UNITS[unit])


def _status(name: str, file: Path | None = None) -> int | None:
    """Return a figure of a process's status, this one's by default, in bytes; None where there is none."""
    try:
        for line in (file or _STATUS).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
