"""This machine as a device profile, and the board that it is."""

from __future__ import annotations

import dataclasses
import importlib
import os
import platform
import re
from pathlib import Path

from zoo.contracts import DeviceProfile
from zoo.machine.cgroups import memory_limit

_MEASURED = "measured: what this process may use"
_X86 = ("x86_64", "amd64", "i386", "i686", "x86")
_ROOT = Path("/")
#: What a device tree calls a board, and its profile; the first that matches counts.
_BOARDS = (
    (r"jetson agx orin", "jetson-agx-orin"),
    (r"jetson orin nx", "jetson-orin-nx"),
    (r"jetson orin nano", "jetson-orin-nano"),
    (r"jetson agx xavier|jetson-agx", "jetson-agx-xavier"),
    (r"jetson xavier nx", "jetson-xavier-nx"),
    (r"jetson.tx2|quill", "jetson-tx2"),
    (r"jetson nano", "jetson-nano"),
    (r"raspberry pi 5", "raspberry-pi-5"),
)


def host(root: Path = _ROOT) -> DeviceProfile:
    """Return the profile of the machine whose files are below `root`.

    It is a known board's profile, or a generic one, with the memory that this process may use.
    """
    memory = usable_memory(root) // 2**20
    board = board_of(root)
    if board is not None:
        boards = importlib.import_module("zoo.devices.boards")
        known: DeviceProfile = getattr(boards, board.replace("-", "_"))
        return dataclasses.replace(
            known,
            id="host",
            summary=f"this machine, a {board}: {known.summary}",
            memory_mb=memory,
            sources={**known.sources, "memory_mb": _MEASURED},
        )
    x86 = platform.machine().lower() in _X86
    return DeviceProfile(
        id="host",
        summary=f"this machine ({platform.system()}, {platform.machine()})",
        memory_mb=memory,
        precisions=("int8", "float32") if x86 else ("int8", "float16", "float32"),
        engines=("openvino", "onnxruntime") if x86 else ("onnxruntime",),
        sources={
            "memory_mb": _MEASURED,
            "precisions": "what processors of its kind compute fast; not measured",
        },
    )


def board_of(root: Path = _ROOT) -> str | None:
    """Return the profile id of this board, None if the device tree names no known one."""
    for place in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        try:
            model = (root / place).read_bytes()[:1000].decode("utf-8", "replace").replace("\0", "").lower()
        except OSError:
            continue
        for pattern, profile in _BOARDS:
            if re.search(pattern, model):
                return profile
    return None


def usable_memory(root: Path = _ROOT) -> int:
    """Return the bytes of physical memory, or what a container's control group leaves of it."""
    limit, physical = memory_limit(root), _physical(root)
    return physical if limit is None else min(limit, physical)


def _physical(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
