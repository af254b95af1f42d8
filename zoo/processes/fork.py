"""Child processes that begin as copies of this one: what is imported here they need neither import nor hold again.

A copy has one thread, whatever locks others held; so only a process without other threads is copied, and only while it
holds little. Of the parent a copy keeps its module path and what is imported: no file that is open, no variable of the
environment but those that it is given, and none of its signal handlers.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from zoo.processes.child_limits import end_with
from zoo.processes.launch import module_path
from zoo.processes.process_tree import kill_tree
from zoo.processes.time_limits import let_time_limits_end_this_process

#: Bytes of a process that is copied: more than zoo and numpy take. Larger ones are somebody's own program.
_SMALL = 128 << 20
#: Fields of /proc/self/stat: where the environment begins and ends that the process was started with.
_ENVIRONMENT = slice(49, 51)
#: Between two looks at the memory that a copy holds.
_LOOK_SECONDS = 0.1
#: What another process asks of this one by a signal, it asks of the copy: to stop, with whatever that takes.
_PASSED_ON = (signal.SIGINT, signal.SIGTERM)
#: How soon a copy notices Ctrl-C, unless it is deep inside a library, and the least between two that are meant.
_NOTICE_SECONDS, _AGAIN_SECONDS = 2.0, 0.5


class ForkedProcess:
    """A child that :func:`fork_python` started, with the part of `subprocess.Popen`'s interface that is needed.

    Args:
        pid: Its id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None
        self._lock = threading.Lock()  # once it was waited for, its id may be another's

    def poll(self) -> int | None:
        """Return its exit status, minus the signal that ended it; None while it runs."""
        with self._lock:
            if self._status is None:
                try:
                    ended, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:  # somebody else waited for it
                    ended, status = self.pid, 0
                if ended:
                    self._status = os.waitstatus_to_exitcode(status)
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status when it has ended; raise `subprocess.TimeoutExpired` after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.0005
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired("fork", timeout or 0.0)
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return status

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send(signal.SIGKILL)

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with self._lock:
            if self._status is None:
                os.kill(self.pid, number)


def can_fork() -> bool:
    """Return whether this process may be copied: on Linux, with one thread, and small."""
    if not sys.platform.startswith("linux"):
        return False
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/task")) == 1 and pages * os.sysconf("SC_PAGE_SIZE") <= _SMALL


def fork_python(
    target: str, *arguments: str, environment: Mapping[str, str] | None, stderr: IO[bytes], keep: int
) -> ForkedProcess:
    """Call a function of a module in a copy of this process, which ends with it.

    Args:
        target: "package.module:function"; it is called with the arguments.
        arguments: Texts.
        environment: Of the child; None for this process's own.
        stderr: File that the child's standard error goes to.
        keep: The one other file descriptor that the child keeps.

    Raises:
        OSError: The process cannot be copied.
    """
    # Collecting garbage among objects that both have would copy the pages they lie in, whoever does so.
    gc.freeze()
    pid = os.fork()
    if not pid:
        _be_child(target, arguments, environment, stderr.fileno(), keep)
    return ForkedProcess(pid)


def run_in_copy(function: Callable[[], int], too_large: Callable[[int], bool]) -> int:
    """Run a function in a copy of this process, with its files, its terminal and Ctrl-C; return what it returns.

    Whatever ends the copy leaves this process as it is; the copy ends with this process. Ctrl-C is a KeyboardInterrupt
    in the copy. If it cannot be raised there, since a library computes and does not return, or if Ctrl-C comes again,
    the copy is killed with all that it started.

    Args:
        function: Its result is an exit status.
        too_large: Whether the process of an id, and those that it started, hold more memory than the copy may; asked
            now and then.

    Returns:
        The exit status, minus the signal that ended it.

    Raises:
        MemoryError: It did, and was ended.
        OSError: The process cannot be copied.
    """
    parent = os.getpid()
    awaited = {*_PASSED_ON, signal.SIGCHLD}
    # `nohup` and `&` have Ctrl-C ignored.
    heeded = {signal.SIGINT} if signal.getsignal(signal.SIGINT) is signal.default_int_handler else set()
    noticed, asked = mmap.mmap(-1, 1), 0.0  # shared; when Ctrl-C came
    # A signal without a handler that is ignored, as that of a child's end is, would not be waited for.
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        pid = os.fork()
        if not pid:
            _be_copy(function, parent, before, awaited, noticed)
        copy = ForkedProcess(pid)
        while (status := copy.poll()) is None:
            told = signal.sigtimedwait(awaited, _LOOK_SECONDS)
            # Ctrl-C has no sender, and reaches the copy by itself: both are in one group.
            now, again = time.monotonic(), False
            if told is not None and told.si_signo in _PASSED_ON:
                if told.si_pid:
                    copy.send(told.si_signo)
                if told.si_signo in heeded:
                    again = bool(asked) and now - asked > _AGAIN_SECONDS
                    asked = asked or now
            elif too_large(pid):
                kill_tree(pid)
                copy.wait()
                raise MemoryError
            if again or (asked and not noticed[0] and now - asked > _NOTICE_SECONDS):
                kill_tree(pid)
                copy.wait()
                return -signal.SIGINT
        return status
    finally:
        while signal.sigtimedwait(awaited, 0) is not None:  # what came meanwhile was for the copy
            pass
        signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)
        signal.signal(signal.SIGCHLD, before)


def _be_copy(
    function: Callable[[], int],
    parent: int,
    child_handler: Any,
    awaited: set[signal.Signals],
    noticed: mmap.mmap,
) -> NoReturn:
    status = 1

    def interrupt(number: int, frame: FrameType | None) -> None:
        noticed[0] = 1
        signal.default_int_handler(number, frame)

    try:
        signal.signal(signal.SIGCHLD, child_handler)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)
        end_with(parent)
        let_time_limits_end_this_process()
        status = function()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def _be_child(
    target: str, arguments: tuple[str, ...], environment: Mapping[str, str] | None, stderr: int, keep: int
) -> NoReturn:
    status = 1
    try:
        _let_go_of_signals()
        _let_go_of_files(stderr, keep)
        if environment is not None:
            _let_go_of_environment(environment)
        sys.path[:] = module_path()
        module, _, function = target.partition(":")
        getattr(import_module(module), function)(*arguments)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(status)


def _let_go_of_signals() -> None:
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _let_go_of_files(stderr: int, keep: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard, file in enumerate((nothing, nothing, stderr)):
        os.dup2(file, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            try:
                os.close(int(name))
            except OSError:  # that of the list itself
                continue


def _let_go_of_environment(kept: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(kept)
    # What the process was started with stays where the kernel put it, for `/proc` to show.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = map(int, (["", "", *fields])[_ENVIRONMENT])
    if not 0 < begin < end:
        return
    at = begin
    for entry in ctypes.string_at(begin, end - begin).split(b"\0"):
        name, _, value = entry.partition(b"=")
        if kept.get(os.fsdecode(name)) != os.fsdecode(value):
            ctypes.memset(at, 0, len(entry))
        at += len(entry) + 1
