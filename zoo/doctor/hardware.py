"""The machine: board, processors, memory, swap, power mode. Everything is read from files below a root folder."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from zoo.devices import board_of, usable_memory
from zoo.doctor.finding import Finding, Severity
from zoo.machine.processors import usable_processors
from zoo.processes.launch import read_program

_VNNI = ("avx512_vnni", "avx_vnni")
_DOT_PRODUCT = ("asimddp",)


def machine_findings(root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what there is to say about the board and its processors."""
    model = _read(root / "proc/device-tree/model").replace("\0", "").strip()
    profile = board_of(root)
    release = _release(root)
    named = f"{model}{f', {release}' if release else ''}" if model else f"{platform.machine()} computer"
    yield Finding("board", Severity.OK, f"{named}, profile {profile or 'host'}")
    flags = set(re.findall(r"\w+", _read(root / "proc/cpuinfo")))
    count = usable_processors(root)
    if flags & set(_VNNI):
        yield Finding("processor", Severity.OK, f"{count} usable, int8 dot products (VNNI)")
    elif flags & set(_DOT_PRODUCT):
        yield Finding("processor", Severity.OK, f"{count} usable, int8 dot products (asimddp)")
    else:
        yield Finding(
            "processor",
            Severity.NOTE,
            f"{count} usable, no int8 dot products: int8 gains less than half of what is possible",
        )


def memory_findings(root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what there is to say about memory and swap."""
    figures = memory_figures(root)
    usable = usable_memory(root) >> 20
    free = figures.get("MemAvailable", 0) >> 10
    yield Finding("memory", Severity.OK, f"{usable:,} MB for this process, {free:,} MB of it free now")
    total, unused = figures.get("SwapTotal", 0) >> 10, figures.get("SwapFree", 0) >> 10
    if not total:
        yield Finding("swap", Severity.OK, "none: what does not fit is refused or killed, not swapped")
    elif total - unused > 64:
        yield Finding(
            "swap", Severity.NOTE, f"{total - unused:,} of {total:,} MB in use: measurements will be slow and wrong",
            "Close programs, then empty it:  sudo swapoff -a && sudo swapon -a",
        )  # fmt: skip
    else:
        yield Finding("swap", Severity.OK, f"{total:,} MB, unused")


def memory_figures(root: Path = Path("/")) -> dict[str, int]:
    """Return the figures of /proc/meminfo in kB; empty where there is none."""
    lines = _read(root / "proc/meminfo").splitlines()
    pairs = (re.fullmatch(r"(\w+):\s+(\d+) kB", line) for line in lines)
    return {match[1]: int(match[2]) for match in pairs if match}


def power_findings(root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what there is to say about power mode and clocks."""
    mode = _power_mode()
    if mode:
        yield Finding("power mode", Severity.OK, mode, "Change it:  sudo nvpmodel -m MODE")
    governors = {
        _read(path).strip() for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    } - {""}
    if governors and governors != {"performance"}:
        remedy = "sudo jetson_clocks" if mode else "sudo cpupower frequency-set -g performance"
        yield Finding(
            "clocks", Severity.NOTE, f"governor {', '.join(sorted(governors))}: clocks follow the load; timings vary",
            f"Fix them while measuring:  {remedy}",
        )  # fmt: skip
    elif governors:
        yield Finding("clocks", Severity.OK, "governor performance")


def _power_mode() -> str:
    """Return what nvpmodel says, "" where there is none."""
    program = shutil.which("nvpmodel")
    if program is None:
        return ""
    match = re.search(r"Power Mode:\s*(\S+)", read_program(program, "-q"))
    return match[1] if match else ""


def _release(root: Path) -> str:
    """Return the Jetson Linux release, "" if this is none."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _read(root / "etc/nv_tegra_release"))
    return f"Jetson Linux {match[1]}.{match[2]}" if match else ""


def _read(path: Path) -> str:
    try:
        return path.read_bytes()[:1_000_000].decode("utf-8", "replace")
    except OSError:
        return ""
