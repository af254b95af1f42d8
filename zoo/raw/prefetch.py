"""Decoding files in the background, in the child process of :mod:`zoo.raw.subprocess_decoder`."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.processes.fork import can_fork
from zoo.raw.subprocess_decoder import SubprocessDecoder

if TYPE_CHECKING:
    from zoo.raw.decode import RawFrame


class PrefetchingDecoder:
    """Decodes one file while the one before is worked on; a context manager.

    One thread speaks with the child for all files, for the kernel ends the child with the thread that started it.

    Attributes:
        seconds: What decoding the file last taken took, most of it perhaps while something else was done.
    """

    def __init__(self) -> None:
        self._decoder = SubprocessDecoder()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._next: tuple[Path, Future[tuple[RawFrame, float]]] | None = None
        self.seconds = 0.0

    def __enter__(self) -> PrefetchingDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child and the thread."""
        self._decoder.abort()  # what is still decoded then is wanted by nobody
        self._thread.shutdown()
        self._decoder.close()

    def start(self) -> None:
        """Have the child started, which takes a while, before it is known whether and which file it is to decode."""
        if can_fork():  # while this thread is the only one
            with contextlib.suppress(ZooError):  # the first file tries again, and tells
                self._decoder.start()
        else:
            self._thread.submit(self._decoder.start)

    def begin(self, path: Path, *, last: bool = False) -> None:
        """Have a file decoded; the child ends afterwards if it is the `last`, or if its memory is needed."""
        self._next = path, self._thread.submit(self._timed, path, last=last)

    def take(self, path: Path, *, last: bool = False) -> RawFrame:
        """Return the frame of a file, decoding it now unless that was begun.

        Raises:
            ZooError: What decoding raises.
        """
        if self._next is None or self._next[0] != path:
            self.begin(path, last=last)
        assert self._next is not None
        future = self._next[1]
        try:
            frame, self.seconds = future.result()
            return frame
        finally:
            self._next = None

    def _timed(self, path: Path, *, last: bool) -> tuple[RawFrame, float]:
        started = time.perf_counter()
        return self._decoder.decode(path, last=last), time.perf_counter() - started

    def end_child(self) -> None:
        """Give back the child's memory; the next file starts another."""
        self._thread.submit(self._decoder.close).result()
