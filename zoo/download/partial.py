"""A file that is being fetched: it grows, survives a kill, and is verified as a whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from zoo.artifacts import FileEntry
from zoo.checkpoints.places import partial_path
from zoo.storage.atomic import CHUNK, open_regular, reading, writing
from zoo.storage.file_lock import acquire, release, try_acquire

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


class Partial:
    """The bytes so far of the file with a given sha256 and size, held by this process alone.

    What an earlier process left is read again, so that the sha256 is always that of all bytes.

    Attributes:
        size: How many bytes there are.
        keep: Whether it is kept for the next pull if this one fails.

    Raises:
        OutputError: The file cannot be made.
    """

    size: int
    keep = True

    def __init__(self, entry: FileEntry, waiting: Callable[[], None] = lambda: None) -> None:
        self.entry = entry
        self.path = partial_path(entry.sha256)
        self._waiting = waiting
        self._descriptor = -1
        self._start()

    def _start(self) -> None:
        """Take over what is there; start again if it cannot be the beginning of this file."""
        self._descriptor = acquire(self.path, self._waiting)
        self.size, self._digest = 0, hashlib.sha256()
        with writing(self.path):
            mode = os.fstat(self._descriptor)
            if not stat.S_ISREG(mode.st_mode):
                raise OSError(errno.ENXIO, "not a regular file")
            if mode.st_size > self.entry.size:
                self.clear()
            while piece := os.read(self._descriptor, CHUNK):
                self._digest.update(piece)
                self.size += len(piece)

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not (self.keep and self.size):
            self.remove()
        self.close()

    def close(self) -> None:
        """Let others have it. What is there stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def missing(self) -> int:
        """Return how many bytes are missing."""
        return self.entry.size - self.size

    def append(self, piece: bytes) -> None:
        """Add bytes at the end; they go to the system at once, so that a kill loses none of them."""
        with writing(self.path):
            rest = memoryview(piece)
            while rest:
                written = os.write(self._descriptor, rest)  # less than all of it on a disk that fills up
                self._digest.update(rest[:written])
                self.size += written
                rest = rest[written:]

    def clear(self) -> None:
        """Start from nothing, in a new file: the old one may be linked into an installed checkpoint."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)
        self.close()
        self._start()

    def problem(self) -> str | None:
        """Return how the bytes differ from the wanted ones, in a word; None if they are exactly those."""
        if self.size != self.entry.size:
            return "longer" if self.size > self.entry.size else "shorter"
        return None if self._digest.hexdigest() == self.entry.sha256 else "altered"

    def install(self, target: Path) -> None:
        """Make `target` this very file, which must be verified.

        Raises:
            OutputError: The target cannot be made.
            OSError: The file cannot be written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.path, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._copy(target)

    def _copy(self, target: Path) -> None:
        """Where it cannot be linked: another file system, or one without links."""
        digest = hashlib.sha256()
        with open_regular(self.path) as stream, target.open("xb") as out:
            while True:
                with reading(self.path):
                    piece = stream.read(CHUNK)
                if not piece:
                    break
                digest.update(piece)
                out.write(piece)
        if digest.hexdigest() != self.entry.sha256:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def remove(self) -> None:
        """Remove it; an installed copy of it stays."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.close()


def remove_leftover(path: Path) -> None:
    """Remove a partial file or a lock that a killed pull left, unless another process is at work with it."""
    if os.path.lexists(path):
        with contextlib.suppress(OSError):
            descriptor = try_acquire(path)
            if descriptor is not None:
                release(path, descriptor)
