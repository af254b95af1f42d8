"""The machine this runs on, as a device profile."""

from __future__ import annotations

import platform
from pathlib import Path

from zoo.contracts import DeviceProfile

_X86 = ("x86_64", "amd64", "i386", "i686", "x86")
_CGROUP = Path("/sys/fs/cgroup")


def host() -> DeviceProfile:
    """The machine this runs on, with the memory this process may use."""
    x86 = platform.machine().lower() in _X86
    return DeviceProfile(
        id="host",
        summary=f"this machine ({platform.system()}, {platform.machine()})",
        memory_mb=usable_memory() // 2**20,
        precisions=("int8", "float32") if x86 else ("int8", "float16", "float32"),
        engines=("openvino", "onnxruntime") if x86 else ("onnxruntime",),
    )


def usable_memory() -> int:
    """Bytes of physical memory, or what a container's control group leaves of it."""
    limits = [_physical(), *_group_limits()]
    return min(limit for limit in limits if limit is not None)


def _physical() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _group_limits() -> list[int]:
    """Limits of this process's control group and those above it, of either version; "max" is none."""
    found = []
    for folder in _groups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                found.append(int((folder / name).read_text()))
            except (OSError, ValueError):
                continue
    return found


def _groups() -> list[Path]:
    folders = [_CGROUP, _CGROUP / "memory"]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _CGROUP / controllers
            own = root / path.lstrip("/")
            folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return folders
