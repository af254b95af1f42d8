"""Computing a picture tile by tile, in parts in the order in which they are written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo.engines.checked_session import joined, rows_of
from zoo.raw.decode import MIRRORED_COLUMNS, MIRRORED_ROWS, TRANSPOSED
from zoo.runner.picture_rounding import Rounding

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import Session
    from zoo.runner.tiles import Plan, Span

#: Samples that are rounded at once: few enough for a processor's cache.
_AT_ONCE = 1 << 16
_ROWS_AT_ONCE, _PIXELS_AT_ONCE = 64, 1 << 13


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
            yield from _computed(session, canvas, row, column, cut)
            continue
        dtype = np.uint8 if canvas.largest <= 255 else np.uint16
        part = np.empty((rows - first_row, columns - first_column, canvas.channels), dtype=dtype)
        for (row, column), (target, cut) in zip(tiles, whole, strict=True):
            first, across = (
                slice(side.start - begin, side.stop - begin)
                for side, begin in zip(target, (first_row, first_column), strict=True)
            )
            begin = first.start
            for some in _computed(session, canvas, row, column, cut):
                part[begin : begin + len(some), across] = some
                begin += len(some)
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


def _computed(
    session: Session, canvas: Canvas, row: Span, column: Span, cut: Sides
) -> Iterator[npt.NDArray[Any]]:
    """A tile's own part of the picture as integers, (rows, columns, channels), some rows at a time."""
    rows, columns = cut
    width = columns.stop - columns.start
    if not width or rows.stop == rows.start:
        return  # only what was added to reach the stride
    at_once = max(1, _AT_ONCE // max(1, canvas.channels * width))
    source = window(canvas.source, row, column)
    first_part = next(source)
    shape = (1, len(first_part), row.last - row.first, column.last - column.first)
    inputs = itertools.chain([first_part], source)
    del first_part, source
    finish = Rounding(canvas.largest, canvas.to_srgb)
    run_rows = getattr(session, "run_rows", None)
    if run_rows is None:
        yield from map(finish, rows_of(session.run(joined(inputs, shape)), rows, columns, at_once))
    else:
        yield from run_rows(inputs, shape, rows, columns, at_once, finish)


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


def window(source: InputSource, row: Span, column: Span) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the input of a tile some rows at a time, (C, rows, w), mirrored beyond the frame's lower and right edge."""
    rows, columns = _mirrored(source.shape[0], row), _mirrored(source.shape[1], column)
    inside = column.last <= source.shape[1]
    at_once = max(1, min(_ROWS_AT_ONCE, _PIXELS_AT_ONCE // len(columns)))
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        part = source.crop(_reach(some), _reach(columns))[:, some - some.min()]
        yield part if inside else part[:, :, columns - columns.min()]


def _mirrored(size: int, span: Span) -> npt.NDArray[np.intp]:
    """Indices of a side of `size` pixels, which goes back and forth behind its end: 0 1 2 2 1 0 0 1 2."""
    indices = np.arange(span.first, span.last) % (2 * size)
    return np.minimum(indices, 2 * size - 1 - indices)


def _reach(indices: npt.NDArray[np.intp]) -> slice:
    return slice(int(indices.min()), int(indices.max()) + 1)
