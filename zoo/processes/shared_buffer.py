"""Memory that two processes map: what one writes into it the other reads, without a copy in between."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class SharedBuffer:
    """Bytes in an anonymous file, which another process maps by the file's descriptor.

    Args:
        size: Bytes.
        descriptor: Of a file that another process made; a new one is made without it.

    Raises:
        OSError: The system has no room for it.
    """

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        self.size = size
        self.descriptor = _anonymous_file() if descriptor is None else descriptor
        self._close = weakref.finalize(self, os.close, self.descriptor)
        if descriptor is None:
            os.ftruncate(self.descriptor, size)
        self.view = mmap.mmap(self.descriptor, size)

    def close(self) -> None:
        """Give the file back; what is mapped goes with the last array that uses it."""
        self._close()


class BufferPool:
    """The buffers that one process makes for another, taken again once nothing refers to them.

    Buffers are known to the other process by number; what it must be told is in :meth:`news`.
    """

    def __init__(self) -> None:
        self._numbers: dict[SharedBuffer, int] = {}
        self._free: list[SharedBuffer] = []
        self._lent: set[SharedBuffer] = set()
        self._new: list[SharedBuffer] = []
        self._dropped: list[int] = []
        self._made = 0

    def take(self, size: int) -> SharedBuffer:
        """Return a buffer of at least `size` bytes."""
        fitting = [each for each in self._free if each.size >= size]
        if fitting:
            found = min(fitting, key=lambda each: each.size)
            self._free.remove(found)
            return found
        for small in self._free:  # rather one large buffer than many that do not fit
            self._drop(small)
        self._free.clear()
        made = SharedBuffer(max(size, 1))
        self._numbers[made] = self._made
        self._made += 1
        self._new.append(made)
        return made

    def number(self, buffer: SharedBuffer) -> int:
        """Return the number by which the other process knows a buffer."""
        return self._numbers[buffer]

    def release(self, buffer: SharedBuffer) -> None:
        """Let a buffer be taken again, unless it is lent."""
        if buffer in self._numbers and buffer not in self._lent and buffer not in self._free:
            self._free.append(buffer)

    def forget(self, buffer: SharedBuffer) -> None:
        """Give up a buffer that the other process has given up by itself."""
        del self._numbers[buffer]
        buffer.close()

    def lend(self, buffer: SharedBuffer, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the beginning of a buffer as an array; the buffer is taken again when the array and its views go."""
        import numpy as np

        flat: npt.NDArray[np.float32] = np.frombuffer(buffer.view, np.float32, int(np.prod(shape)))
        self._lent.add(buffer)
        # Views of views refer to this array, not to those in between.
        weakref.finalize(flat, self._returned, buffer)
        return flat.reshape(shape)

    def news(self) -> tuple[list[tuple[int, int]], tuple[int, ...], list[int]]:
        """Return number and size of each new buffer, their descriptors, and the numbers of those that are gone."""
        new, dropped = self._new, self._dropped
        self._new, self._dropped = [], []
        described = [(self._numbers[each], each.size) for each in new]
        return described, tuple(each.descriptor for each in new), dropped

    def _returned(self, buffer: SharedBuffer) -> None:
        self._lent.discard(buffer)
        self.release(buffer)

    def _drop(self, buffer: SharedBuffer) -> None:
        self._dropped.append(self._numbers.pop(buffer))
        buffer.close()


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("zoo", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())
