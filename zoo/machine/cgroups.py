"""Control groups of Linux: what a container, or any group above this process, leaves it of memory and processors.

A limit holds for all groups below the one that states it, so every group from this process's own to the root counts.
Both versions are read; `root` is the folder that stands for "/".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def memory_limit(root: Path = _ROOT) -> int | None:
    """Return the bytes that the tightest group grants, None if none limits them."""
    limits = [
        int(text)
        for folder in _groups("memory", root)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(folder / name)).isdigit()
    ]
    return min(limits, default=None)


def processor_quota(root: Path = _ROOT) -> float | None:
    """Return how many processors' worth of time the tightest group grants, None if none limits it."""
    shares = []
    for folder in _groups("cpu", root):
        stated = _read(folder / "cpu.max").split()
        if len(stated) != 2:
            stated = [_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        # "max" and -1 are no limit.
        if all(text.isdigit() for text in stated) and int(stated[0]) > 0 and int(stated[1]) > 0:
            shares.append(int(stated[0]) / int(stated[1]))
    return min(shares, default=None)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the groups of this process: its own, those above it, and the root of each hierarchy.

    In a container the path may be that of the host, of which only the root is seen.
    """
    mount = root / "sys/fs/cgroup"
    yield mount
    yield mount / controller
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        hierarchy = mount / controllers
        own = hierarchy / path.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(hierarchy))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
