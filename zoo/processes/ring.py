"""A few places in memory that two processes map, through which arrays of any length go piece by piece.

The two take turns by bytes through their socket: for each piece one that says that it is there, and for each place that
is to be used again one that says that it was read.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.processes.shared_memory import SharedMemory

#: Pieces that may be there at once: one is written while the other is read.
PLACES = 2
_WORD = b"+"

#: Waits for as many bytes as the buffer has.
Wait = Callable[[bytearray], None]


class Ring:
    """One end of it.

    Args:
        memory: That both map.
        channel: The socket.
        wait: How one waits for the other process; by default for any time.
    """

    def __init__(self, memory: SharedMemory, channel: socket.socket, wait: Wait | None = None) -> None:
        self._memory, self._channel = memory, channel
        self._wait = wait or self._wait_for_ever

    @property
    def largest(self) -> int:
        """Return the bytes that a piece may have."""
        return self._memory.size // PLACES

    def send(self, pieces: Iterable[npt.NDArray[np.float32]], size: int) -> None:
        """Send all pieces of an array; raise OSError if the other process has ended.

        Args:
            pieces: (n,) or (C, rows, W) each.
            size: Bytes of the largest.
        """
        for number, piece in enumerate(pieces):
            if number >= PLACES:
                self._wait(bytearray(len(_WORD)))
            self._place(number, piece.shape, size)[...] = piece
            self._channel.sendall(_WORD)

    def receive(self, shapes: Sequence[tuple[int, ...]]) -> Iterator[npt.NDArray[np.float32]]:
        """Yield pieces of these shapes, each until the next is asked for; raise OSError if the other has ended."""
        size = size_of(shapes)
        for number, shape in enumerate(shapes):
            self._wait(bytearray(len(_WORD)))
            yield self._place(number, shape, size)
            if number + PLACES < len(shapes):
                self._channel.sendall(_WORD)

    def _place(self, number: int, shape: tuple[int, ...], size: int) -> npt.NDArray[np.float32]:
        import numpy as np

        flat: npt.NDArray[np.float32] = np.frombuffer(
            self._memory.view, np.float32, prod(shape), number % PLACES * size
        )
        return flat.reshape(shape)

    def _wait_for_ever(self, word: bytearray) -> None:
        if not self._channel.recv_into(word):
            raise ConnectionError("it ended")


def size_of(shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the bytes of the largest of these shapes in float32; 0 without any."""
    return 4 * max(map(prod, shapes), default=0)


def flat_shapes(count: int, at_once: int) -> list[tuple[int, ...]]:
    """Return the shapes of the pieces of an array of so many numbers."""
    return [(min(at_once, count - begin),) for begin in range(0, count, at_once)]


def flat_pieces(array: npt.NDArray[np.float32], at_once: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield an array of any shape as pieces of numbers, (n,)."""
    flat = array.reshape(-1)
    for begin in range(0, flat.size, at_once):
        yield flat[begin : begin + at_once]


def row_shapes(channels: int, rows: int, columns: int, at_once: int) -> list[tuple[int, ...]]:
    """Return the shapes of the pieces of a picture, some rows at a time."""
    return [(channels, min(at_once, rows - begin), columns) for begin in range(0, rows, at_once)]


def row_pieces(picture: npt.NDArray[np.float32], at_once: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield a picture (C, H, W) some rows at a time."""
    for begin in range(0, picture.shape[1], at_once):
        yield picture[:, begin : begin + at_once]
