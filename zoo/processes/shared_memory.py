"""Memory that two processes map: what one writes into it the other reads."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import weakref


class SharedMemory:
    """An anonymous file that is mapped; another process maps it by its descriptor. Pages are there once they are used.

    Args:
        size: Bytes.
        descriptor: Of a file that another process made; a new one is made without it.

    Raises:
        OSError: The system has no room for it.
    """

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        self.size = size
        self.descriptor = anonymous_file() if descriptor is None else descriptor
        self._close = weakref.finalize(self, os.close, self.descriptor)
        if descriptor is None:
            os.ftruncate(self.descriptor, size)
        self.view = mmap.mmap(self.descriptor, size)

    def close(self) -> None:
        """Give the file back; what is mapped goes with the last array that uses it."""
        self._close()


def anonymous_file() -> int:
    """Return the descriptor of an empty file in memory that has no name, and cannot be made smaller again."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("zoo", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # Reading what another process has cut off would end this one.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return descriptor
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())
