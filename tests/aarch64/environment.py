"""Python for aarch64 as a program that can be started like any other."""

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
exec {emulator} -L {guest} -cpu {cpu} -0 "$0" {python} "$@"
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and the scratch folder of what runs in it."""

    folder: Path
    scratch: Path

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.folder / "bin" / "python"


def environment(folder: Path, debian: Path, path: Sequence[Path], *, cpu: str) -> Environment:
    """An environment for one processor, by its name for QEMU; `path`: the folders of its packages.

    The program in its bin folder is a shell script that starts QEMU with Python, telling Python (-0) that the script
    is its name. So Python finds pyvenv.cfg beside it, as in any virtual environment, and `sys.executable` is the
    script: a child process that is started by it runs in QEMU too, through the kernel's own handling of scripts.
    No binfmt_misc is needed, which only an administrator can set up, and zoo need not know.
    """
    here = folder / cpu
    site = here / "lib" / PYTHON / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    (site / "packages.pth").write_text("".join(f"{each}\n" for each in path))
    (here / "pyvenv.cfg").write_text(f"home = {debian}/guest/usr/bin\ninclude-system-site-packages = false\n")
    wrapper = here / "bin" / "python"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(
        _WRAPPER.format(
            emulator=quote(str(debian / "host" / EMULATOR)),
            guest=quote(str(debian / "guest")),
            cpu=quote(cpu),
            python=quote(str(debian / "guest" / "usr" / "bin" / PYTHON)),
        )
    )
    wrapper.chmod(0o755)
    return Environment(here, folder / "scratch" / cpu)


def run(
    python: Path | str, *arguments: str | Path, scratch: Path, path: Sequence[Path] = (), show: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a Python in a scratch folder, which is its home and has its temporary files and compiled modules.

    show: what it prints goes to the terminal and is not returned.
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
