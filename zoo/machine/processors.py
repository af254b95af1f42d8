"""How many processors this process may use, and of what kind."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.machine.cgroups import processor_quota

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile

#: Lines of /proc/cpuinfo, on x86 and ARM.
_ABILITIES = (b"flags", b"features", b"model name", b"cpu part")


def usable_processors(root: Path = Path("/")) -> int:
    """Return how many processors this process may use: its affinity, cut down to a container's quota; at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    quota = processor_quota(root)
    return max(1, count if quota is None else min(count, int(quota)))


def thread_count(asked: int = 0, profile: DeviceProfile | None = None) -> int:
    """Return the threads an engine on the processor starts: `asked`, else the profile's, else all it may use.

    Never more than :func:`usable_processors`: threads beyond a quota only take turns.
    """
    usable = usable_processors()
    return min(asked or (profile.threads if profile else 0) or usable, usable)


def multiplies_unsigned() -> bool:
    """Return whether this processor's int8 instructions multiply unsigned by signed, as those of x86 do."""
    return os.uname().machine.lower() in ("x86_64", "amd64", "i386", "i686", "x86")


def machine_fingerprint() -> str:
    """Return this machine's name and what its processor can do: results for one hold for no other."""
    return f"{os.uname().nodename} {os.uname().machine} {_abilities()}"


@functools.cache
def _abilities(description: Path = Path("/proc/cpuinfo")) -> str:
    """Return a digest of what the first processor says of itself, the same whatever load it is under."""
    lines = []
    with contextlib.suppress(OSError), description.open("rb") as stream:
        for line in stream:
            if not line.strip():
                break
            if line.partition(b":")[0].strip().lower() in _ABILITIES:
                lines.append(line)
    return hashlib.sha256(b"".join(lines)).hexdigest()[:16]
