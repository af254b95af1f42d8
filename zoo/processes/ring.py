"""A few places in memory that two processes map, through which arrays of any length go piece by piece.

The two take turns by bytes through their socket: for each piece one that says that it is there, and for each place that
is to be used again one that says that it was read.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.processes.shared_memory import SharedMemory

#: Pieces that may be there at once: one is written while the other is read.
PLACES = 2
#: Blocks of finished rows, which are smaller, in a piece.
BLOCKS = 4
_WORD, _BROKEN = b"+", b"-"

#: Waits for as many bytes as the buffer has.
Wait = Callable[[bytearray], None]


class BrokenOffError(Exception):
    """The other process has begun to send pieces, and cannot make the next."""


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

    def send(self, pieces: Iterable[npt.NDArray[Any]], size: int) -> None:
        """Send all pieces of an array; raise OSError if the other process has ended.

        Args:
            pieces: (n,), (C, rows, W) or (rows, W, C) each, of one type. What making them raises is announced.
            size: Bytes of the largest.
        """
        try:
            for number, piece in enumerate(pieces):
                if number >= PLACES:
                    self._wait(bytearray(len(_WORD)))
                self._place(number, piece.shape, size, piece.dtype)[...] = piece
                self._channel.sendall(_WORD)
        except ZooError:
            self._channel.sendall(_BROKEN)
            raise

    def receive(
        self, shapes: Sequence[tuple[int, ...]], dtype: npt.DTypeLike = "float32"
    ) -> Iterator[npt.NDArray[Any]]:
        """Yield pieces of these shapes, each until the next is asked for.

        Raises:
            BrokenOffError: The other process could not make a piece; it tells why next.
            OSError: It has ended.
        """
        size = size_of(shapes, dtype)
        for number, shape in enumerate(shapes):
            word = bytearray(len(_WORD))
            self._wait(word)
            if word != _WORD:
                raise BrokenOffError
            yield self._place(number, shape, size, dtype)
            if number + PLACES < len(shapes):
                self._channel.sendall(_WORD)

    def _place(
        self, number: int, shape: tuple[int, ...], size: int, dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        import numpy as np

        flat = np.frombuffer(self._memory.view, dtype, prod(shape), number % PLACES * size)
        return flat.reshape(shape)

    def _wait_for_ever(self, word: bytearray) -> None:
        if not self._channel.recv_into(word):
            raise ConnectionError("it ended")


def size_of(shapes: Sequence[tuple[int, ...]], dtype: npt.DTypeLike = "float32") -> int:
    """Return the bytes of the largest of these shapes; 0 without any."""
    import numpy as np

    return np.dtype(dtype).itemsize * max(map(prod, shapes), default=0)


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


def finished_pieces(
    picture: npt.NDArray[np.float32],
    finish: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]],
    at_once: int,
) -> Iterator[npt.NDArray[Any]]:
    """Yield a picture (C, H, W) as what is made of it, some blocks of `at_once` rows in each piece, (rows, W, C).

    Each is there until the next is asked for.
    """
    import numpy as np

    room: npt.NDArray[Any] | None = None
    for begin in range(0, picture.shape[1], BLOCKS * at_once):
        rows = picture[:, begin : begin + BLOCKS * at_once]
        for first, block in zip(range(0, rows.shape[1], at_once), row_pieces(rows, at_once), strict=True):
            made = finish(block)
            if room is None:
                room = np.empty((BLOCKS * at_once, *made.shape[1:]), made.dtype)
            room[first : first + len(made)] = made
        assert room is not None
        yield room[: rows.shape[1]]
