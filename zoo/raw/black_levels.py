"""Black levels that vary over a DNG frame, read from the file's own tags.

LibRaw reports one level per color of a 2 x 2 cell. The DNG specification (1.7, "BlackLevelRepeatDim",
"BlackLevelDeltaH", "BlackLevelDeltaV") allows cells of any size and a further offset for each row and column; LibRaw
reduces those to the smallest one, which leaves the rest in the picture as light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import InputError
from zoo.raw.plausible import DAMAGED

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.raw.dng_tags import FrameTags

#: Of the range between black and white: what levels of one cell differ by at most.
_UNLIKE = 0.01
_REPEAT, _LEVEL, _DELTA_H, _DELTA_V = 50713, 50714, 50715, 50716


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

    def doubts(self, white: float) -> tuple[str, ...]:
        """Return a sentence if the levels of a cell are less alike than those of sensors; white: level of the frame."""
        levels = [level for row in self.cell for level in row]
        if max(levels) - min(levels) <= _UNLIKE * (white - min(levels)):
            return ()
        return (f"Its black levels differ, from {min(levels):g} to {max(levels):g}.",)

    def of_colors(self, pattern: npt.NDArray[np.int64]) -> list[float] | None:
        """Return the levels of the four colour indices, if one level for each says all of it; else None.

        Args:
            pattern: Colour indices of the cell, (2, 2) or (6, 6).
        """
        values = {level for row in self.cell for level in row}
        small = pattern.shape == (2, 2) and 2 % len(self.cell) == 0 and 2 % len(self.cell[0]) == 0
        if not (len(values) == 1 or small) or len({*self.rows}) > 1 or len({*self.columns}) > 1:
            return None
        offset = sum((*self.rows[:1], *self.columns[:1]))
        levels = [min(values) + offset] * 4
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)) if small else ():
            level = self.cell[row % len(self.cell)][column % len(self.cell[0])]
            levels[int(pattern[row, column])] = level + offset
        return levels

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


def read_black_levels(tags: FrameTags, name: str) -> BlackLevels:
    """Return what a DNG file states of its black levels.

    Args:
        tags: Of its mosaic.
        name: What errors call the file.

    Raises:
        InputError: If the tags contradict each other or the TIFF structure is damaged.
    """
    repeat = tags.numbers(_REPEAT) or (1.0, 1.0)
    levels = tags.numbers(_LEVEL) or (0.0,)
    columns, rows = tags.numbers(_DELTA_H), tags.numbers(_DELTA_V)
    if len(repeat) != 2 or min(repeat) < 1 or repeat[0] * repeat[1] != len(levels):
        size = " x ".join(f"{side:g}" for side in repeat)
        raise InputError(f"{name} states {len(levels)} black levels for a cell of {size}.", hint=DAMAGED)
    height, width = int(repeat[0]), int(repeat[1])
    cell = tuple(levels[row * width : (row + 1) * width] for row in range(height))
    return BlackLevels(cell, rows, columns)
