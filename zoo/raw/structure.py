"""Whether what a DNG file says of its mosaic fits together: sizes, bits, strips, levels, and what LibRaw made of it.

LibRaw goes on with whatever the tags say, so that one altered byte turns a picture into noise, or shifts it, without a
word. Sizes of compressed data say nothing; all else is known twice in every file.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.raw.plausible import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from zoo.raw.dng_tags import FrameTags

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES = 256, 257, 258, 259, 277
_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_CFA_SIDES, _CFA, _LAYOUT, _LINEARIZATION, _WHITE, _ACTIVE = 33421, 33422, 50711, 50712, 50717, 50829
_SAMPLE_FORMAT, _FLOATING, _RECTANGULAR = 339, 3, 1
_CROP_ORIGIN, _CROP_SIZE = 50719, 50720
_ORIENTATION = 274
#: Of the eight orientations, those that mirror.
_MIRRORED = (2, 4, 5, 7)
#: Red, green, blue, cyan, magenta, yellow and white are 0 to 6.
_LAST_COLOUR = 6
_UNCOMPRESSED = 1
#: Uncompressed, lossless JPEG, Deflate, lossy JPEG and JPEG XL: those that DNG 1.7 names.
_COMPRESSIONS = (1, 7, 8, 34892, 52546)
_MOST_BITS = 16
_NEED = "Use a single exposure from a sensor with pixels in a grid, as the camera wrote it."
#: Bytes that a writer may add to a strip.
_PADDING = 64
_LARGEST_SIDE = 1 << 16
#: Rows or columns at one side that cameras leave out of what is shown, for interpolation.
_HIDDEN = 64


@dataclass(frozen=True)
class Structure:
    """The layout of a DNG mosaic.

    Attributes:
        height: Rows.
        width: Columns.
        bits: Of a sample as it is stored.
        largest: The largest value of a sample; None where a table maps the stored ones.
        white: The stated white level, or else the largest value that a sample can have.
        uncut: Rows or columns of the active area that are not to be shown, beyond the few that every camera hides.
        area: Of the visible pixels: the first row and column, and those behind the last.
        cell: Colours of the colour-filter array from the first visible pixel on, row by row; None if they are not
            stated.
        orientations: Which side is up, 1 to 8, as the file states it, and as the mosaic's directory does.
        white_stated: Whether the white level is stated, or follows from a table or from fewer than 16 bits.
        surplus: Bytes of a part that neither samples nor what writers add explain: its rows may be longer than stated.
    """

    height: int
    width: int
    bits: int
    largest: int | None
    white: float
    uncut: int
    area: tuple[int, int, int, int]
    cell: tuple[tuple[int, ...], ...] | None
    orientations: tuple[int, ...] = (1,)
    white_stated: bool = True
    surplus: int = 0

    def visible(self, image: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        """Return the visible pixels of all that a sensor has, (H, W)."""
        top, left, bottom, right = self.area
        return image[top:bottom, left:right]

    def covered(self, image: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        """Return the pixels left of the visible ones of an image (H, W), which light does not reach: (h, w)."""
        return image[self.area[0] : self.area[2], : self.area[1]]

    def doubts(self) -> tuple[str, ...]:
        """Return a sentence for each thing that looks wrong."""
        found = []
        if self.uncut:
            found.append(f"{self.uncut} rows or columns of the sensor are shown that the camera would hide.")
        if self.surplus:
            found.append(f"It holds {self.surplus:,} bytes more than pixels of its size take.")
        if not self.white_stated:
            found.append("No white level is stated.")
        if len(set(self.orientations)) > 1:
            stated = " and ".join(map(str, self.orientations))
            found.append(f"It states two orientations, {stated}; the first is taken.")
        if self.orientations[0] in _MIRRORED:
            found.append("It is to be shown as a mirror would, which no camera asks for.")
        return tuple(found)


def read_structure(tags: FrameTags, size: int, name: str) -> Structure:
    """Read the layout of a mosaic and hold its parts against each other.

    Args:
        tags: Of the mosaic.
        size: Bytes of the file.
        name: What errors call the file.

    Raises:
        InputError: They contradict each other, or the file's size.
    """

    def one(tag: int, what: str, default: int | None = None) -> int:
        values = tags.numbers(tag)
        if not values and default is not None:
            return default
        if len(values) != 1 or values[0] != int(values[0]):
            raise _contradiction(name, f"states {len(values) or 'no'} {what}")
        return int(values[0])

    height, width = one(_HEIGHT, "heights"), one(_WIDTH, "widths")
    if not (0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE):
        raise _contradiction(name, f"states a size of {width} x {height}")
    if one(_SAMPLES, "numbers of samples", 1) != 1:
        raise _contradiction(name, "states several samples per pixel for a mosaic")
    bits, compression = one(_BITS, "numbers of bits"), one(_COMPRESSION, "compressions", _UNCOMPRESSED)
    if one(_SAMPLE_FORMAT, "kinds of samples", 1) == _FLOATING or bits in (24, 32):
        raise InputError(
            f"{name} holds samples of {bits} bits, as files made of several exposures do.", hint=_NEED
        )
    if one(_LAYOUT, "layouts", _RECTANGULAR) != _RECTANGULAR:
        raise InputError(f"{name} is from a sensor whose rows are shifted against each other.", hint=_NEED)
    if not 8 <= bits <= _MOST_BITS:
        raise _contradiction(name, f"states {bits} bits per sample")
    if compression not in _COMPRESSIONS:
        raise _contradiction(name, f"states an unknown compression, {compression}")
    surplus = _check_pieces(tags, height, width, bits if compression == _UNCOMPRESSED else None, size, name)
    table = tags.numbers(_LINEARIZATION)
    largest = None if table else (1 << bits) - 1
    for white in tags.numbers(_WHITE):
        if largest is not None and not 0 < white <= largest:
            raise _contradiction(name, f"states a white level of {white:g} for {bits} bits")
    area, hidden = _check_area(tags, height, width, name)
    sides, cell = tags.numbers(_CFA_SIDES), tags.numbers(_CFA)
    if sides and (len(sides) != 2 or sides[0] * sides[1] != len(cell)):
        raise _contradiction(name, f"states {len(cell)} colours for its colour-filter array")
    if any(each > _LAST_COLOUR for each in cell):
        raise _contradiction(name, "states an unknown colour of its colour-filter array")
    orientations = [int(each) for each in (*tags.of_file(_ORIENTATION)[:1], *tags.numbers(_ORIENTATION)[:1])]
    for orientation in orientations:
        if not 1 <= orientation <= 8:
            raise _contradiction(name, f"states an unknown orientation, {orientation}")
    return Structure(
        height,
        width,
        bits,
        largest,
        max(tags.numbers(_WHITE) or table, default=(1 << bits) - 1),
        hidden if hidden > _HIDDEN else 0,
        area,
        _rows([int(each) for each in cell], int(sides[1])) if sides else None,
        tuple(orientations) or (1,),
        bool(tags.numbers(_WHITE) or table) or bits < _MOST_BITS,
        surplus,
    )


def check_decoded(structure: Structure, raw: Any, mosaic: npt.NDArray[np.uint16], name: str) -> None:
    """Hold what LibRaw made of a file against its layout.

    Args:
        structure: The layout.
        raw: The file as rawpy opened it.
        mosaic: (H, W), the visible pixels.
        name: What errors call the file.

    Raises:
        InputError: They are not of one file.
    """
    sizes = raw.sizes
    if (sizes.raw_height, sizes.raw_width) != (structure.height, structure.width):
        found = f"{sizes.raw_width} x {sizes.raw_height}"
        raise _contradiction(
            name, f"is decoded to {found} pixels, but states {structure.width} x {structure.height}"
        )
    brightest = int(mosaic.max())
    if structure.largest is not None and brightest > structure.largest:
        raise _contradiction(name, f"holds a value of {brightest}, but states {structure.bits} bits")


def _check_pieces(tags: FrameTags, height: int, width: int, bits: int | None, size: int, name: str) -> int:
    """Strips or tiles cover the mosaic, lie within the file, and hold its samples if `bits` says how many bits each.

    Returns the most bytes that one has beyond them and beyond padding.
    """
    tiled = bool(tags.numbers(_TILE_OFFSETS))
    offsets = tags.numbers(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = tags.numbers(_TILE_BYTES if tiled else _STRIP_BYTES)
    if tiled:
        across, down = (tags.numbers(tag)[:1] for tag in (_TILE_WIDTH, _TILE_HEIGHT))
        if not across or not down or min(across[0], down[0]) < 1:
            raise _contradiction(name, "states no size of its tiles")
        shapes = [(int(down[0]), int(across[0]))] * (
            math.ceil(width / across[0]) * math.ceil(height / down[0])
        )
    else:
        rows = int((tags.numbers(_ROWS_PER_STRIP) or (height,))[0])
        if rows < 1:
            raise _contradiction(name, "states strips without rows")
        shapes = [(min(rows, height - first), width) for first in range(0, height, min(rows, height))]
    if not len(offsets) == len(counts) == len(shapes):
        raise _contradiction(
            name, f"states {len(offsets)} places and {len(counts)} sizes for {len(shapes)} parts"
        )
    spans = sorted(zip(offsets, counts, strict=True))
    for offset, count in spans:
        if offset < 8 or count < 1 or offset + count > size:
            raise _contradiction(name, "places its pixels outside the file")
        for begin, end in tags.described:
            if offset < end and begin < offset + count:
                raise _contradiction(name, "places its pixels over its own description")
    for (offset, count), (following, _) in itertools.pairwise(spans):
        if offset + count > following:
            raise _contradiction(name, "places its pixels in parts that overlap")
    if bits is None:
        return 0
    surplus = 0
    for (rows, columns), count in zip(shapes, counts, strict=True):
        needed = rows * math.ceil(columns * bits / 8)
        if not needed <= count <= needed * 1.005 + _PADDING:
            raise _contradiction(name, f"has {count:g} bytes for {columns} x {rows} samples of {bits} bits")
        surplus = max(surplus, int(count) - needed - _PADDING)
    return surplus


def _rows(values: Sequence[int], columns: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(values[first : first + columns]) for first in range(0, len(values), columns))


def _check_area(tags: FrameTags, height: int, width: int, name: str) -> tuple[tuple[int, int, int, int], int]:
    """The active area, which lies within the pixels, and what of it is hidden: what is shown lies within it."""
    area = tags.numbers(_ACTIVE) or (0, 0, height, width)
    if not (len(area) == 4 and 0 <= area[0] < area[2] <= height and 0 <= area[1] < area[3] <= width):
        raise _contradiction(name, "states an active area outside its pixels")
    origin, size, hidden = tags.numbers(_CROP_ORIGIN), tags.numbers(_CROP_SIZE), 0
    if len(origin) == len(size) == 2:
        across, down = origin[0] + size[0], origin[1] + size[1]
        if across > area[3] - area[1] or down > area[2] - area[0]:
            raise _contradiction(name, "is to be shown beyond its active area")
        hidden = int(max(area[3] - area[1] - across, area[2] - area[0] - down))
    top, left, bottom, right = (int(each) for each in area)
    return (top, left, bottom, right), hidden


def _contradiction(name: str, what: str) -> InputError:
    return InputError(f"{name} is damaged: it {what}.", hint=DAMAGED)
