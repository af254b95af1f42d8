"""Python for aarch64 as a program that can be started like any other, on a board of one's choice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from aarch64.packages import EMULATOR, PYTHON

_WRAPPER = """\
#!/bin/sh
exec {emulator} -L {root} -cpu {cpu} -0 "$0" {python} "$@"
"""
_CPUINFO = """\
processor\t: {number}
BogoMIPS\t: 38.40
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant:#x}
CPU part\t: {part:#x}
CPU revision\t: 1

"""
_ARMV8_0 = "fp asimd evtstrm aes pmull sha1 sha2 crc32"


@dataclass(frozen=True)
class Board:
    """A board as its kernel describes it. cpu: the core, for QEMU; variant, part and features as in /proc/cpuinfo.

    off: how many processors its power mode switches off, besides those that are on.
    """

    id: str
    model: str
    cpu: str
    variant: int
    part: int
    features: str
    off: int = 0

    def write(self, root: Path) -> None:
        """The files below `root` from which programs learn where they are."""
        count = os.cpu_count() or 1
        known = f"0-{count + self.off - 1}\n"
        values = {"variant": self.variant, "part": self.part, "features": self.features}
        contents = {
            "proc/cpuinfo": "".join(_CPUINFO.format(number=each, **values) for each in range(count)),
            "proc/device-tree/model": f"{self.model}\0",
            "sys/devices/system/cpu/possible": known,
            "sys/devices/system/cpu/present": known,
        }
        for name, content in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


#: Its Cortex-A78AE is one that QEMU 7.2 lacks; the A76, of the Raspberry Pi 5, has the same int8 dot products.
JETSON_ORIN_NANO = Board(
    "jetson-orin-nano", "NVIDIA Jetson Orin Nano Developer Kit", "cortex-a76", 0, 0xD42,
    f"{_ARMV8_0} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp", off=2,
)  # fmt: skip
JETSON_NANO = Board("jetson-nano", "NVIDIA Jetson Nano Developer Kit", "cortex-a57", 1, 0xD07, _ARMV8_0)


@dataclass(frozen=True)
class Environment:
    """A virtual environment on a board, and the scratch folder of what runs in it."""

    board: Board
    folder: Path
    scratch: Path

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.folder / "bin" / "python"


def environment(folder: Path, debian: Path, path: Sequence[Path], board: Board) -> Environment:
    """An environment on a board; `path`: the folders of its packages.

    The program in its bin folder is a shell script that starts QEMU with Python, telling Python (-0) that the script
    is its name. So Python finds pyvenv.cfg beside it, as in any virtual environment, and `sys.executable` is the
    script: a child process that is started by it runs in QEMU too, through the kernel's own handling of scripts.
    No binfmt_misc is needed, which only an administrator can set up, and zoo need not know.

    QEMU looks for every file below its root first: programs see the board's /proc/cpuinfo, not that of this
    machine, over which ONNX Runtime from 1.28 crashes when it is imported.
    """
    here = folder / board.id
    root, site, wrapper = here / "root", here / "lib" / PYTHON / "site-packages", here / "bin" / "python"
    for each in (root, site, wrapper.parent):
        each.mkdir(parents=True, exist_ok=True)
    guest = debian / "guest"
    for part in guest.iterdir():
        link = root / part.name
        link.unlink(missing_ok=True)
        link.symlink_to(part)
    board.write(root)
    (site / "packages.pth").write_text("".join(f"{each}\n" for each in path))
    (here / "pyvenv.cfg").write_text(f"home = {guest}/usr/bin\ninclude-system-site-packages = false\n")
    program = guest / "usr" / "bin" / PYTHON
    parts = {"emulator": debian / "host" / EMULATOR, "root": root, "cpu": board.cpu, "python": program}
    wrapper.write_text(_WRAPPER.format(**{name: quote(str(part)) for name, part in parts.items()}))
    wrapper.chmod(0o755)
    return Environment(board, here, folder / "scratch" / board.id)


def run(
    python: Path | str, *arguments: str | Path, scratch: Path, path: Sequence[Path] = (), show: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a Python in a scratch folder, which is its home and has its temporary files and compiled modules.

    path: further modules. show: what it prints goes to the terminal and is not returned.
    """
    for name in ("home", "tmp"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    clean = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    return subprocess.run(
        [python, *arguments],
        env={
            **clean, "HOME": str(scratch / "home"), "TMPDIR": str(scratch / "tmp"), "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONPYCACHEPREFIX": str(scratch / "compiled"),
        },
        cwd=scratch / "home",
        stdout=None if show else subprocess.PIPE,
        stderr=None if show else subprocess.PIPE,
        text=True,
        check=False,
    )  # fmt: skip
