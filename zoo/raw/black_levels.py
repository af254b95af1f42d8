"""Black levels that vary over a DNG frame, read from the file's own tags.

LibRaw reports one level per color of a 2 x 2 cell. The DNG specification (1.7, "BlackLevelRepeatDim",
"BlackLevelDeltaH", "BlackLevelDeltaV") allows cells of any size and a further offset for each row and column; LibRaw
reduces those to the smallest one, which leaves the rest in the picture as light. This module finds the tags in the
TIFF structure, with every count and offset bounded, since the file is untrusted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from zoo.errors import InputError
from zoo.raw.plausible import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

_SUBFILE, _PHOTOMETRIC, _SAMPLES, _SUB_IFDS, _DNG_VERSION = 254, 262, 277, 330, 50706
_REPEAT, _LEVEL, _DELTA_H, _DELTA_V = 50713, 50714, 50715, 50716
_CFA = 32803
#: struct codes of the numeric TIFF types; rationals are pairs.
_TYPES = {1: "B", 3: "H", 4: "I", 5: "II", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
_RATIONAL = (5, 10)
_MOST_IFDS, _MOST_ENTRIES, _MOST_VALUES = 32, 1000, 1 << 16

_Entry = tuple[int, int, bytes]  # type, count, value or offset


@dataclass(frozen=True)
class BlackLevels:
    """Levels in sensor units: ``cell[r % h, c % w] + rows[r] + columns[c]`` for visible pixel (r, c).

    Attributes:
        cell: (h, w), repeated from the top left visible pixel.
        rows: One offset for each row of the frame; empty for none.
        columns: One offset for each column of the frame; empty for none.
    """

    cell: tuple[tuple[float, ...], ...]
    rows: tuple[float, ...] = ()
    columns: tuple[float, ...] = ()

    def per_color(self, pattern: npt.NDArray[np.int64]) -> bool:
        """Return whether one level for each color of a colour-filter cell says all of it, as LibRaw reports it.

        Args:
            pattern: Colour indices of the cell, (2, 2) or (6, 6).
        """
        values = {level for row in self.cell for level in row}
        small = pattern.shape == (2, 2) and 2 % len(self.cell) == 0 and 2 % len(self.cell[0]) == 0
        return (len(values) == 1 or small) and len({*self.rows}) <= 1 and len({*self.columns}) <= 1

    def flatten(self, mosaic: npt.NDArray[np.uint16], name: str) -> float:
        """Shift the pixels of a mosaic (H, W), in place, so that all have one black level.

        Returns:
            That level: the lowest of the frame, in whole sensor units.

        Raises:
            InputError: If the offsets are for a frame of another size.
        """
        import numpy as np

        height, width = mosaic.shape
        for values, side, what in ((self.rows, height, "rows"), (self.columns, width, "columns")):
            if values and len(values) != side:
                raise InputError(
                    f"{name} states black levels for {len(values)} {what}, but has {side}.", hint=DAMAGED
                )
        cell = np.array(self.cell)
        columns = np.array(self.columns) if self.columns else np.zeros(width)
        rows = np.array(self.rows) if self.rows else np.zeros(height)
        base = max(0, int(np.floor(cell.min() + rows.min() + columns.min())))
        repeated = np.tile(cell, (1, -(-width // cell.shape[1])))[:, :width] + columns
        for row in range(height):
            level = repeated[row % len(cell)] + rows[row] - base
            shifted = np.rint(mosaic[row] - level)
            mosaic[row] = np.clip(shifted, 0, np.iinfo(np.uint16).max)
        return float(base)


def read_black_levels(stream: BinaryIO, name: str) -> BlackLevels | None:
    """Return what a DNG file states of its black levels.

    Args:
        stream: The file; its position changes.
        name: What errors call the file.

    Returns:
        None for files of other formats, and for DNG files that state nothing.

    Raises:
        InputError: If the tags contradict each other or the TIFF structure is damaged.
    """
    try:
        return _read(stream, name)
    except (struct.error, OverflowError) as error:
        raise InputError(f"{name} has a damaged TIFF structure.", hint=DAMAGED) from error


def _read(stream: BinaryIO, name: str) -> BlackLevels | None:
    stream.seek(0)
    head = stream.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return None
    found = _directories(stream, order, struct.unpack(order + "I", head[4:])[0], name)
    first = next(found, {})
    if _DNG_VERSION not in first:
        return None
    directories = [first, *found]

    def numbers(directory: Mapping[int, _Entry], tag: int) -> tuple[float, ...]:
        return _numbers(stream, order, directory[tag], name) if tag in directory else ()

    frames = [each for each in directories if numbers(each, _PHOTOMETRIC) == (_CFA,)]
    # A file may hold several mosaics; the full one has a subfile type of 0.
    frames.sort(key=lambda each: numbers(each, _SUBFILE)[:1] != (0,))
    if not frames or numbers(frames[0], _SAMPLES)[:1] not in ((), (1,)):
        return None
    frame = frames[0]
    repeat = numbers(frame, _REPEAT) or (1.0, 1.0)
    levels = numbers(frame, _LEVEL) or (0.0,)
    columns, rows = numbers(frame, _DELTA_H), numbers(frame, _DELTA_V)
    if len(repeat) != 2 or min(repeat) < 1 or repeat[0] * repeat[1] != len(levels):
        size = " x ".join(f"{side:g}" for side in repeat)
        raise InputError(f"{name} states {len(levels)} black levels for a cell of {size}.", hint=DAMAGED)
    height, width = int(repeat[0]), int(repeat[1])
    cell = tuple(levels[row * width : (row + 1) * width] for row in range(height))
    return BlackLevels(cell, rows, columns)


def _directories(stream: BinaryIO, order: str, first: int, name: str) -> Iterator[Mapping[int, _Entry]]:
    """Yield the first directory of a TIFF file, those chained to it, and those that they name as their own."""
    waiting, seen = [first], set[int]()
    while waiting and len(seen) < _MOST_IFDS:
        offset = waiting.pop(0)
        if not offset or offset in seen:
            continue
        seen.add(offset)
        stream.seek(offset)
        count = int.from_bytes(stream.read(2), "little" if order == "<" else "big")
        content = stream.read(12 * min(count, _MOST_ENTRIES) + 4)
        entries: dict[int, _Entry] = {}
        # A preview's directory may be cut off: whether the mosaic's is whole, its tags show.
        for start in range(0, len(content) - 15, 12):
            tag, kind, values, value = struct.unpack_from(order + "HHI4s", content, start)
            entries.setdefault(tag, (kind, values, value))
        yield entries
        if count <= _MOST_ENTRIES and len(content) == 12 * count + 4:
            waiting += struct.unpack(order + "I", content[-4:])
        if _SUB_IFDS in entries:
            waiting += [int(each) for each in _numbers(stream, order, entries[_SUB_IFDS], name)][:_MOST_IFDS]


def _numbers(stream: BinaryIO, order: str, entry: _Entry, name: str) -> tuple[float, ...]:
    kind, count, value = entry
    # 13 is an offset to a directory, which is stored as a LONG.
    code = _TYPES.get(4 if kind == 13 else kind)
    if code is None or not 0 < count <= _MOST_VALUES:
        raise InputError(f"{name} has a damaged TIFF structure.", hint=DAMAGED)
    form = f"{order}{count * len(code)}{code[0]}"
    size = struct.calcsize(form)
    if size > 4:
        stream.seek(struct.unpack(order + "I", value)[0])
        value = stream.read(size)
    found: Sequence[float] = struct.unpack(form, value[:size])
    if kind in _RATIONAL:
        found = [top / bottom if bottom else 0.0 for top, bottom in zip(found[::2], found[1::2], strict=True)]
    return tuple(found)
