"""Computing a picture tile by tile, in parts in the order in which they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo.errors import IntegrityError
from zoo.raw.decode import MIRRORED_COLUMNS, MIRRORED_ROWS, TRANSPOSED
from zoo.raw.develop import develop

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import Session
    from zoo.runner.tiles import Plan, Span

#: Samples that are rounded at once: few enough for a processor's cache.
_AT_ONCE = 1 << 17
_ROWS_AT_ONCE = 64


class InputSource(Protocol):
    """What tiles are cut from: :class:`zoo.raw.pack.Packed` or :class:`zoo.raw.pack.Packer`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns as the network sees them."""

    @property
    def top(self) -> int:
        """Return the rows that packing added above the picture."""

    @property
    def left(self) -> int:
        """Return the columns that packing added to the left of the picture."""

    @property
    def height(self) -> int:
        """Return the rows of the picture."""

    @property
    def width(self) -> int:
        """Return the columns of the picture."""

    @property
    def cell(self) -> int:
        """Return the rows (and columns) of the picture for each row (and column) of `shape`."""

    def crop(self, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return a window of the input, (C, rows, columns)."""


@dataclass(frozen=True)
class Canvas:
    """The picture that a source becomes.

    Attributes:
        source: What the network sees.
        scale: Pixels of the picture per input pixel along each side.
        channels: Of the picture.
        largest: Value of a sample that stands for 1.
        flip: How the picture is to be turned, as LibRaw numbers it.
        to_srgb: (3, 3), for networks that answer in camera colours: from those to linear sRGB.
    """

    source: InputSource
    scale: int
    channels: int
    largest: int = 255
    flip: int = 0
    to_srgb: npt.NDArray[np.float32] | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """Return rows and columns before it is turned upright."""
        return tuple(
            side * self.scale // self.source.cell for side in (self.source.height, self.source.width)
        )  # type: ignore[return-value]

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height when it is upright."""
        height, width = self.sides
        return (height, width) if self.rotated else (width, height)

    @property
    def rotated(self) -> bool:
        """Return whether its columns become its rows."""
        return bool(self.flip & TRANSPOSED)


def infer(session: Session, canvas: Canvas, plan: Plan) -> Iterator[npt.NDArray[Any]]:
    """Yield the parts of the upright picture, from the top down.

    Each part is at most one row of tiles, or one column of them if the picture is turned, so that no more of
    the picture is held; a tile as wide as the picture is yielded some rows at a time.

    Yields:
        (rows, width, channels) of an unsigned integer type.

    Raises:
        IntegrityError: The network returns numbers that are not finite.
    """
    backwards = canvas.flip & (MIRRORED_COLUMNS if canvas.rotated else MIRRORED_ROWS)
    outer, inner = (plan.columns, plan.rows) if canvas.rotated else (plan.rows, plan.columns)
    place = _places(canvas)
    for span in reversed(outer) if backwards else outer:
        tiles = [(across, span) if canvas.rotated else (span, across) for across in inner]
        whole = [place(*tile) for tile in tiles]
        rows, columns = (max(at[side].stop for at, _ in whole) for side in (0, 1))
        first_row, first_column = (min(at[side].start for at, _ in whole) for side in (0, 1))
        if rows <= first_row or columns <= first_column:
            continue  # only what was added to reach the stride
        if canvas.flip == 0 and len(tiles) == 1:
            ((row, column),), ((_, cut),) = tiles, whole
            yield from _integers(
                session.run(window(canvas.source, row, column))[0][:, cut[0], cut[1]], canvas
            )
            continue
        dtype = np.uint8 if canvas.largest <= 255 else np.uint16
        part = np.empty((rows - first_row, columns - first_column, canvas.channels), dtype=dtype)
        for (row, column), (target, cut) in zip(tiles, whole, strict=True):
            outputs = session.run(window(canvas.source, row, column))[0]
            at = tuple(
                slice(side.start - begin, side.stop - begin)
                for side, begin in zip(target, (first_row, first_column), strict=True)
            )
            _fill(part[at], outputs[:, cut[0], cut[1]], canvas)
            del outputs
        yield upright(part, canvas.flip)
        del part


def upright(picture: npt.NDArray[Any], flip: int) -> npt.NDArray[Any]:
    """Return a view of (rows, columns, channels) with LibRaw's orientation `flip` undone."""
    if flip & MIRRORED_ROWS:
        picture = picture[::-1]
    if flip & MIRRORED_COLUMNS:
        picture = picture[:, ::-1]
    return picture.transpose(1, 0, 2) if flip & TRANSPOSED else picture


Sides = tuple[slice, slice]


def _fill(part: npt.NDArray[Any], outputs: npt.NDArray[np.float32], canvas: Canvas) -> None:
    """Put (channels, rows, columns) in [0, 1] as integers into (rows, columns, channels)."""
    first = 0
    for rows in _integers(outputs, canvas):
        part[first : first + len(rows)] = rows
        first += len(rows)


def _integers(outputs: npt.NDArray[np.float32], canvas: Canvas) -> Iterator[npt.NDArray[Any]]:
    """(channels, rows, columns) in [0, 1] as integers, (rows, columns, channels), some rows at a time."""
    dtype = np.uint8 if canvas.largest <= 255 else np.uint16
    rows = max(1, _AT_ONCE // max(1, outputs.shape[0] * outputs.shape[2]))
    for first in range(0, outputs.shape[1], rows):
        samples = outputs[:, first : first + rows]
        # What is not a number, or infinite, makes the sum so; one pass and no array of truth values.
        if not np.isfinite(samples.sum(dtype=np.float64)):
            raise IntegrityError("The network returned numbers that are not finite.")
        if canvas.to_srgb is not None:
            yield develop(samples, canvas.to_srgb, canvas.largest).transpose(1, 2, 0)
            continue
        samples = samples * np.float32(canvas.largest)
        np.rint(np.clip(samples, 0, canvas.largest, out=samples), out=samples)
        yield samples.astype(dtype).transpose(1, 2, 0)


def _places(canvas: Canvas) -> Callable[[Span, Span], tuple[Sides, Sides]]:
    """For a tile, where its own part lies in the picture before that is turned, and where in the tile's output."""
    height, width = canvas.sides
    top, left = (
        each * canvas.scale // canvas.source.cell for each in (canvas.source.top, canvas.source.left)
    )

    def place(row: Span, column: Span) -> tuple[Sides, Sides]:
        rows, from_rows = _place(row, canvas.scale, top, height)
        columns, from_columns = _place(column, canvas.scale, left, width)
        return (rows, columns), (from_rows, from_columns)

    return place


def _place(span: Span, scale: int, added: int, size: int) -> tuple[slice, slice]:
    """Where one side of a tile's own part lies in the picture, and where in the tile's output.

    added: pixels that packing put in front, which go; so does the padding behind `size` pixels.
    """
    start = max(0, span.start * scale - added)
    stop = max(start, min(size, span.stop * scale - added))
    offset = added - span.first * scale
    return slice(start, stop), slice(start + offset, stop + offset)


def window(source: InputSource, row: Span, column: Span) -> npt.NDArray[np.float32]:
    """Return the input of a tile, (1, C, h, w), mirrored beyond the frame's lower and right edge."""
    rows, columns = _mirrored(source.shape[0], row), _mirrored(source.shape[1], column)
    inside = column.last <= source.shape[1]
    out: npt.NDArray[np.float32] | None = None
    # Some rows at a time, so that nothing is there twice.
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[first : first + _ROWS_AT_ONCE]
        part = source.crop(_reach(some), _reach(columns))
        if out is None:
            out = np.empty((1, len(part), len(rows), len(columns)), dtype=np.float32)
        part = part[:, some - some.min()]
        out[0, :, first : first + len(some)] = part if inside else part[:, :, columns - columns.min()]
    assert out is not None
    return out


def _mirrored(size: int, span: Span) -> npt.NDArray[np.intp]:
    """Indices of a side of `size` pixels, which goes back and forth behind its end: 0 1 2 2 1 0 0 1 2."""
    indices = np.arange(span.first, span.last) % (2 * size)
    return np.minimum(indices, 2 * size - 1 - indices)


def _reach(indices: npt.NDArray[np.intp]) -> slice:
    return slice(int(indices.min()), int(indices.max()) + 1)
