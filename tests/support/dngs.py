"""DNG files for tests: whole ones by the project's writer, odd ones tag by tag."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from zoo.raw.decode import RawFrame
from zoo.raw.dng import dng_bytes

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
COLORCHART = SHARED / "raw" / "colorchart.dng"
RGGB = np.array([[0, 1], [3, 2]])
PHASES = {
    "rggb": RGGB,
    "grbg": np.array([[1, 0], [2, 3]]),
    "gbrg": np.array([[3, 2], [0, 1]]),
    "bggr": np.array([[2, 3], [1, 0]]),
}
XTRANS = np.array(
    [
        [1, 1, 0, 1, 1, 2],
        [1, 1, 2, 1, 1, 0],
        [2, 0, 1, 0, 2, 1],
        [1, 1, 2, 1, 1, 0],
        [1, 1, 0, 1, 1, 2],
        [0, 2, 1, 2, 0, 1],
    ]
)
_MATRIX = np.array([[0.6461, -0.1164, -0.0857], [-0.3825, 1.1597, 0.2534], [-0.0416, 0.1540, 0.6]])


def frame(
    shape: tuple[int, int] = (64, 96),
    pattern: np.ndarray[Any, Any] = RGGB,
    black: tuple[float, float, float, float] = (512, 500, 520, 508),
    mosaic: np.ndarray[Any, Any] | None = None,
    flip: int = 0,
) -> RawFrame:
    """A frame of random pixels a little above black."""
    if mosaic is None:
        mosaic = np.random.default_rng(5).integers(490, 4000, shape)
    return RawFrame(mosaic.astype(np.uint16), pattern, black, (16383.0,) * 4, (2.0, 1.0, 1.5), flip)


def dng(of: RawFrame) -> bytes:
    """The DNG file of a frame."""
    return dng_bytes(of, xyz_to_camera=_MATRIX)


def odd_dng(
    samples: Any,
    cell: tuple[tuple[int, ...], ...] | None = ((0, 1), (1, 2)),
    tags: tuple[tuple[int, int, int, Any, bool], ...] = (),
    white: int = 16383,
    **options: Any,
) -> bytes:
    """A DNG file with any colour cell (None: a linear one) and any further tags.

    Args:
        samples: (H, W) of uint16, or the encoded strips.
        cell: Colours of the colour-filter array.
        tags: As tifffile takes them.
        white: The white level.
        options: Of `tifffile.imwrite`.
    """
    common: list[tuple[int, int, int, Any, bool]] = [
        (50706, 1, 4, bytes((1, 4, 0, 0)), True),
        (50708, 2, 0, "test", True),
        (50717, 4, 1, white, True),
        (50721, 10, 9, (6461, 10000, -1164, 10000, -857, 10000, -3825, 10000, 11597, 10000, 2534, 10000, -416, 10000,
                        1540, 10000, 6000, 10000), True),
        (50778, 3, 1, 21, True),
    ]  # fmt: skip
    if cell is not None:
        flat = bytes(colour for row in cell for colour in row)
        common += [
            (33421, 3, 2, (len(cell), len(cell[0])), True),
            (33422, 1, len(flat), flat, True),
        ]
    buffer = io.BytesIO()
    photometric = 34892 if cell is None else 32803
    tifffile.imwrite(
        buffer, samples, photometric=photometric, metadata=None, extratags=[*common, *tags], **options
    )
    return buffer.getvalue()
