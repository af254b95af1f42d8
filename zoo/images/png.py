"""Writing PNG while its rows are computed, compressed on all processors.

The deflate stream is cut into independent blocks, so that each is compressed by a thread of its own (zlib releases
the GIL), and no more of the image is held than the blocks in progress. Specification:
https://www.w3.org/TR/png-3/ (PNG), RFC 1950 (zlib) and 1951 (deflate).
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from zoo.machine.processors import usable_processors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rows = npt.NDArray[np.uint8]

#: Bytes of rows that are compressed at once. Each block loses what it could have repeated from the one before.
BLOCK = 1 << 20
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB = 0, 2
#: Of zlib, for deflate of no level in particular and a window of 32 kB.
_ZLIB_HEADER = b"\x78\x01"
#: An empty last block with fixed codes: what ends a stream whose blocks were all flushed.
_END = b"\x03\x00"
_SUB, _UP = 1, 2


def write_png(stream: BinaryIO, width: int, height: int, channels: int, parts: Iterable[Rows]) -> None:
    """Write an image of 8 bits per sample, gray or RGB.

    Args:
        stream: Open for writing.
        width: Of the image.
        height: Of the image.
        channels: 1 or 3.
        parts: (rows, width, channels) from the top down, `height` rows in all; each is released when it is compressed.
    """
    workers = usable_processors()
    header = struct.pack(">IIBBBBB", width, height, 8, _RGB if channels == 3 else _GRAY, 0, 0, 0)
    stream.write(_SIGNATURE)
    _chunk(stream, b"IHDR", header)
    under_way: deque[Future[tuple[bytes, int, int]]] = deque()
    checksum = _Adler()
    start = _ZLIB_HEADER

    def write_first() -> None:
        nonlocal start
        compressed, sum_, length = under_way.popleft().result()
        checksum.add(sum_, length)
        _chunk(stream, b"IDAT", start + compressed)
        start = b""

    with ThreadPoolExecutor(workers, thread_name_prefix="png") as threads:
        try:
            for above, rows in _blocks(parts, max(1, BLOCK // (width * channels))):
                under_way.append(threads.submit(_compressed, above, rows, channels))
                del above, rows
                while under_way and (len(under_way) > 2 * workers or under_way[0].done()):
                    write_first()
            while under_way:
                write_first()
        finally:
            for future in under_way:
                future.cancel()
    _chunk(stream, b"IDAT", _END + struct.pack(">I", checksum.value))
    _chunk(stream, b"IEND", b"")


def _blocks(parts: Iterable[Rows], most: int) -> Iterator[tuple[Rows | None, Rows]]:
    """Yield at most that many rows at once as (rows, bytes), each with a copy of the row above, None for the first."""
    import numpy as np

    above: Rows | None = None
    for part in parts:
        for first in range(0, len(part), most):
            # Copied, so that the part goes before its last blocks are compressed; it may be a turned view, too.
            block = np.array(part[first : first + most], order="C")
            block = block.reshape(len(block), -1)
            yield above, block
            above = block[-1].copy()
            del block
        del part


def _compressed(above: Rows | None, rows: Rows, channels: int) -> tuple[bytes, int, int]:
    """Return a deflated block, flushed to a whole byte, with the checksum and length of its content."""
    filtered = _filtered(above, rows, channels)
    # Photographs repeat themselves little, above all noisy ones: looking for runs alone takes half the time of the
    # fastest level of full deflate, for files that are 12 % smaller to 6 % larger.
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    compressed = deflate.compress(filtered.data) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return compressed, zlib.adler32(filtered.data), filtered.nbytes


def _filtered(above: Rows | None, rows: Rows, channels: int) -> Rows:
    """Differences to the pixel on the left or above, by row those of the smaller sum, each row with its filter."""
    import numpy as np

    height, width = rows.shape
    left = np.empty((height, 1 + width), dtype=np.uint8)
    up = np.empty((height, 1 + width), dtype=np.uint8)
    left[:, 0], up[:, 0] = _SUB, _UP
    left[:, 1 : 1 + channels] = rows[:, :channels]
    np.subtract(rows[:, channels:], rows[:, :-channels], out=left[:, 1 + channels :])
    np.subtract(rows[0], 0 if above is None else above, out=up[0, 1:])
    np.subtract(rows[1:], rows[:-1], out=up[1:, 1:])
    higher = _size(up) < _size(left)
    left[higher] = up[higher]
    return left


def _size(differences: Rows) -> npt.NDArray[np.int32]:
    """Return the sum of each row's differences, without their signs, over a sample of its bytes."""
    import numpy as np

    sample = differences[:, 1::7].view(np.int8)
    sizes: npt.NDArray[np.int32] = np.abs(sample, dtype=np.int16).sum(axis=1, dtype=np.int32)
    return sizes


class _Adler:
    """The Adler-32 checksum of blocks from theirs: RFC 1950, as adler32_combine of zlib does it."""

    _BASE = 65521

    def __init__(self) -> None:
        self.value = 1

    def add(self, checksum: int, length: int) -> None:
        """Take in a block that follows: its own checksum, and how many bytes it has."""
        low, high = self.value & 0xFFFF, self.value >> 16
        own_low, own_high = checksum & 0xFFFF, checksum >> 16
        total = (low + own_low - 1) % self._BASE
        self.value = (high + own_high + length * (low - 1)) % self._BASE << 16 | total


def _chunk(stream: BinaryIO, kind: bytes, content: bytes) -> None:
    stream.write(struct.pack(">I", len(content)) + kind)
    stream.write(content)
    stream.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
