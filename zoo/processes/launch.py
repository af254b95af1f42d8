"""Starting child processes: the one place where zoo does so.

A Python child imports nothing from the current directory, from packages of the user alone or by `PYTHON...` variables,
but exactly from where this process does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

#: What every child runs. It takes over the parent's module path before it imports anything that is not Python's own.
_PROGRAM = (
    "import json, sys\n"
    "sys.path[:] = json.loads(sys.argv[1])\n"
    "from importlib import import_module\n"
    "getattr(import_module(sys.argv[2]), sys.argv[3])(*sys.argv[4:])\n"
)  # fmt: skip
#: What a child that handles a stranger's file gets of the environment: no token, no proxy, nothing else.
_PLAIN = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)
#: One thread: for children in which no library computes.
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def start_python(
    target: str,
    *arguments: str,
    site: bool = False,
    environment: dict[str, str] | None = None,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a function of a module in a child process that is isolated from the current directory.

    Args:
        target: "package.module:function"; it is called with the arguments.
        arguments: Texts.
        site: Whether the child runs Python's `site`, and so the import hooks of editable installs; it takes longer.
        environment: Of the child; None for this process's own.
        stdout: As for `subprocess.Popen`.
        stderr: As for `subprocess.Popen`.
        pass_fds: File descriptors that the child inherits.

    Raises:
        OSError: The child cannot be started.
    """
    module, _, function = target.partition(":")
    flags = ["-I"] if site else ["-I", "-S"]
    return subprocess.Popen(
        [sys.executable, *flags, "-c", _PROGRAM, json.dumps(module_path()), module, function, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        pass_fds=pass_fds,
    )


def isolate_workers() -> None:
    """Have the processes that Python's `multiprocessing` starts from now on import nothing from the current directory.

    By itself it starts them so that the current directory is searched first, until they have its module path.
    """
    from multiprocessing import util

    given: Callable[[], list[str]] = util._args_from_interpreter_flags  # type: ignore[attr-defined]
    if "-I" not in given():
        util._args_from_interpreter_flags = lambda: [*given(), "-I"]  # type: ignore[attr-defined]


def read_program(path: str, *arguments: str, seconds: float = 10) -> str:
    """Return what a program of the system writes to standard output; "" if it cannot be run or takes too long."""
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, errors="replace", timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def plain_environment(**more: str) -> dict[str, str]:
    """Return the few variables that finding programs and libraries takes, and `more`."""
    return {name: os.environ[name] for name in _PLAIN if name in os.environ} | more


def environment_without_secrets() -> dict[str, str]:
    """Return this process's environment without what is named like a secret."""
    return {name: value for name, value in os.environ.items() if not _SECRET.search(name)}


def module_path() -> list[str]:
    """Return this process's module path without the current directory.

    Python puts the current directory, or that of the script, in front; a child needs neither. What the user or an
    installation added on purpose stays.
    """
    entries = sys.path[:]
    here = Path.cwd()
    if entries and Path(entries[0] or here) == here and not _named_on_purpose(here):
        del entries[0]
    return [entry for entry in entries if os.path.isabs(entry)]


def _named_on_purpose(folder: Path) -> bool:
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return any(each and Path(each) == folder for each in named)
