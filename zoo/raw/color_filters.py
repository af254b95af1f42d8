"""The colour-filter array of a frame: which colour each pixel of the repeating cell sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

_NEED_MOSAIC = "Use a file with the sensor's mosaic: one value per pixel, red, green or blue."
_RED, _GREEN, _BLUE, _SECOND_GREEN = range(4)


def color_indices(raw: Any, stated: Sequence[Sequence[int]] | None, name: str) -> npt.NDArray[np.int64]:
    """Return the colour index of each position of the cell at the corner of the visible pixels.

    Args:
        raw: The file as rawpy opened it.
        stated: The colours (0 red, 1 green, 2 blue) of the cell that the file states itself, row by row; None to go by
            LibRaw, which shifts cells of 6 x 6 pixels where the visible ones do not begin at the corner of the sensor.
        name: What errors call the file.

    Returns:
        (2, 2) or (6, 6): 0 red, 1 green, 2 blue, 3 the green of a Bayer cell beside the blue.

    Raises:
        InputError: It is none that is known.
    """
    import numpy as np
    import rawpy

    if raw.raw_type != rawpy.RawType.Flat:
        raise InputError(
            f"{name} holds several colours per pixel (a linear DNG, an sRAW, or a three-layer sensor).",
            hint=_NEED_MOSAIC,
        )
    if stated is not None:
        pattern = _without_repetition(np.array(stated, dtype=np.int64))
        colours = "RGB"
    else:
        if raw.raw_pattern is None:
            raise InputError(
                f"{name} is from a sensor without colour filters (monochrome).", hint=_NEED_MOSAIC
            )
        pattern = np.array(raw.raw_pattern, dtype=np.int64)
        colours = raw.color_desc.decode("ascii", "replace")
    found = "".join(colours[index : index + 1] or "?" for index in pattern.ravel())
    counts = {colour: found.count(colour) for colour in "RGB"}
    bayer = pattern.shape == (2, 2) and counts == {"R": 1, "G": 2, "B": 1}
    xtrans = pattern.shape == (6, 6) and counts == {"R": 8, "G": 20, "B": 8}
    if not (bayer or xtrans) or colours[:3] != "RGB":
        cell = f"{pattern.shape[0]} x {pattern.shape[1]} cell of {', '.join(dict.fromkeys(found))}"
        raise InputError(f"{name} has an unknown colour-filter array (a {cell}).", hint=_NEED_MOSAIC)
    if stated is not None and bayer:
        beside_blue = (pattern == _BLUE).any(axis=1, keepdims=True)
        pattern = np.where((pattern == _GREEN) & beside_blue, _SECOND_GREEN, pattern)
    return pattern


def _without_repetition(cell: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The 2 x 2 cell of which a larger one consists, or the cell itself."""
    import numpy as np

    small = cell[:2, :2]
    times = cell.shape[0] // 2, cell.shape[1] // 2
    return small if min(times) and np.array_equal(np.tile(small, times), cell) else cell
