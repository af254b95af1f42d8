"""Opening a RAW file: the mosaic as the sensor gave it, and what is needed to scale it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class RawFrame:
    """One exposure.

    mosaic:  uint16 (H, W), visible pixels only.
    pattern: colour index of each position of the repeating cell, (2, 2) for Bayer, (6, 6) for X-Trans;
             0 red, 1 green, 2 blue, 3 the second green of a Bayer cell.
    black:   black level of each of the four colour indices, in sensor units.
    white:   saturation level of each of the four colour indices, in sensor units.
    gains:   white-balance gain of red, green, blue; green is 1.
    flip:    rotation LibRaw reports: 0 none, 3 by 180 degrees, 5 by 90 counter-clockwise, 6 by 90 clockwise.
    """

    mosaic: npt.NDArray[np.uint16]
    pattern: npt.NDArray[np.int64]
    black: tuple[float, float, float, float]
    white: tuple[float, float, float, float]
    gains: tuple[float, float, float]
    flip: int = 0

    @property
    def kind(self) -> Literal["bayer", "xtrans"]:
        """The sensor's colour-filter array."""
        return "bayer" if self.pattern.shape == (2, 2) else "xtrans"


def decode(source: Path | bytes) -> RawFrame:
    """Read a RAW file (a path, or the bytes of one) through LibRaw.

    Raises InputError when the file is missing, is no RAW file, is damaged, or has no colour-filter mosaic.
    """
    import rawpy

    name = str(source) if isinstance(source, Path) else "the RAW data"
    if isinstance(source, Path) and not source.is_file():
        what = "is a directory" if source.is_dir() else "does not exist"
        raise InputError(f"{name} {what}; a RAW file is needed.")
    try:
        raw = rawpy.imread(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except (rawpy.LibRawError, OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read as a RAW file: {error}") from error
    with raw:
        try:
            return _frame(raw, name)
        except rawpy.LibRawError as error:
            raise InputError(f"{name} is damaged: {error}") from error


def _frame(raw: Any, name: str) -> RawFrame:
    import numpy as np

    mosaic = raw.raw_image_visible
    pattern = raw.raw_pattern
    if mosaic is None or mosaic.ndim != 2 or pattern is None:
        raise InputError(f"{name} holds no colour-filter mosaic (a linear or three-layer sensor?).")
    black = tuple(float(v) for v in raw.black_level_per_channel)
    levels = raw.camera_white_level_per_channel
    white_level = float(raw.white_level)
    white = tuple(float(v) if v else white_level for v in levels) if levels is not None else (white_level,) * 4
    return RawFrame(
        mosaic=np.array(mosaic, dtype=np.uint16),
        pattern=np.array(pattern, dtype=np.int64),
        black=(black[0], black[1], black[2], black[3]),
        white=(white[0], white[1], white[2], white[3]),
        gains=_gains(raw.camera_whitebalance) or _gains(raw.daylight_whitebalance) or (1.0, 1.0, 1.0),
        flip=int(raw.sizes.flip),
    )


def _gains(values: Any) -> tuple[float, float, float] | None:
    red, green, blue = (float(v) for v in list(values)[:3])
    if not (red > 0 and green > 0 and blue > 0):
        return None
    return red / green, 1.0, blue / green
