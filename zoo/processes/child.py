"""A child process with a socket to it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile

from zoo.processes.fork import ForkedProcess, can_fork, fork_python
from zoo.processes.launch import start_python

_LARGEST_TEXT = 10_000


class ChildProcess:
    """A Python function in a child process, which is given the number of its socket and this process's id.

    Args:
        target: "package.module:function".
        site: See :func:`zoo.processes.launch.start_python`.
        environment: Of the child; None for this process's own.
        copy: Whether it may begin as a copy of this process, where :func:`zoo.processes.fork.can_fork` says so.

    Attributes:
        channel: This process's end of the socket.

    Raises:
        OSError: The child cannot be started.
    """

    def __init__(
        self,
        target: str,
        *,
        site: bool = False,
        environment: dict[str, str] | None = None,
        copy: bool = False,
    ) -> None:
        self.channel, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the child has ended
        with theirs:
            try:
                arguments = (target, str(theirs.fileno()), str(os.getpid()))
                self._process: subprocess.Popen[bytes] | ForkedProcess
                if copy and can_fork() and min(theirs.fileno(), self._errors.fileno()) > 2:
                    self._process = fork_python(
                        *arguments, environment=environment, stderr=self._errors, keep=theirs.fileno()
                    )
                else:
                    self._process = start_python(
                        *arguments, site=site, environment=environment, stderr=self._errors,
                        pass_fds=[theirs.fileno()],
                    )  # fmt: skip
            except BaseException:
                self.channel.close()
                self._errors.close()
                raise

    @property
    def id(self) -> int:
        """Return the id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Return whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it at once, from any thread; :meth:`end` is still needed."""
        self._process.kill()

    def end(self, grace: float = 0.0) -> int:
        """Close the socket, and kill the process if it has not ended in `grace` seconds; return its exit status."""
        self.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        self._process.kill()
        return self._process.wait()

    def last_words(self) -> str:
        """Return the last line that it wrote to standard error, "" for none."""
        self._errors.seek(0)
        lines = self._errors.read(_LARGEST_TEXT).decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""
