"""Virtual environments for tests that install packages of plugins."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, on one core."""
    return subprocess.run(
        [str(each) for each in command], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""},
    )  # fmt: skip


def fresh_environment(folder: Path) -> Path:
    """The Python of a new environment that sees the packages of this one: torch alone is gigabytes."""
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return folder / "bin" / "python"


def install_editable(python: Path, *packages: Path) -> None:
    """Install packages under development, with this environment's pip and build tools: both come with the tests."""
    editable = [word for package in packages for word in ("-e", package)]
    options = ("--quiet", "--no-compile", "--no-build-isolation", "--check-build-dependencies")
    done = run(
        sys.executable, "-m", "pip", "--python", python, "install", *options, *editable, cwd=python.parent
    )
    assert done.returncode == 0, done.stderr
