"""Computing a picture tile by tile, straight into its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import IntegrityError

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import Session
    from zoo.raw.pack import Packed
    from zoo.runner.tiles import Plan, Span


def infer(session: Session, packed: Packed, plan: Plan, scale: int, picture: npt.NDArray[Any]) -> None:
    """Fill `picture`, (H, W, channels) of an unsigned integer type, with what the network makes of `packed`.

    scale: pixels of the picture per input pixel along each side. Raises IntegrityError if the network gives
    numbers that are not finite.
    """
    largest = np.iinfo(picture.dtype).max
    height, width = picture.shape[:2]
    for row, column in plan:
        outputs = session.run(window(packed.data, row, column, plan))
        rows, from_rows = _place(row, scale, packed.top * scale // packed.cell, height)
        columns, from_columns = _place(column, scale, packed.left * scale // packed.cell, width)
        part = outputs[0, :, from_rows, from_columns] * np.float32(largest)
        if not np.isfinite(part).all():
            raise IntegrityError("The network gave numbers that are not finite.")
        picture[rows, columns] = np.rint(np.clip(part, 0, largest, out=part), out=part).transpose(1, 2, 0)


def _place(span: Span, scale: int, added: int, size: int) -> tuple[slice, slice]:
    """Where one side of a tile's own part lies in the picture, and where in the tile's output.

    added: pixels that packing put in front, which go; so does the padding behind `size` pixels.
    """
    start = max(0, span.start * scale - added)
    stop = max(start, min(size, span.stop * scale - added))
    offset = added - span.first * scale
    return slice(start, stop), slice(start + offset, stop + offset)


def window(data: npt.NDArray[np.float32], row: Span, column: Span, plan: Plan) -> npt.NDArray[np.float32]:
    """The input of a tile, (1, C, h, w). Beyond the frame's lower and right edge it is mirrored."""
    height, width = data.shape[1:]
    if row.last <= height and column.last <= width:
        part = data[:, row.first : row.last, column.first : column.last]
    else:
        rows = _mirrored(height, plan.height)[row.first : row.last]
        columns = _mirrored(width, plan.width)[column.first : column.last]
        part = data[:, rows[:, None], columns[None, :]]
    return np.ascontiguousarray(part[None])


def _mirrored(size: int, wanted: int) -> npt.NDArray[np.intp]:
    """Indices 0 .. wanted-1 of a side of `size` pixels, going back and forth: 0 1 2 2 1 0 0 1 2."""
    indices = np.arange(wanted) % (2 * size)
    return np.minimum(indices, 2 * size - 1 - indices)
