"""Writing a sensor mosaic as a DNG file, which is a TIFF with a dozen more tags."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from zoo.raw.decode import RawFrame

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SRATIONAL, _DOUBLE = 1, 2, 3, 4, 5, 10, 12
_D65 = 21


def _rationals(values: Sequence[float], denominator: int = 10_000) -> tuple[int, ...]:
    pairs: list[int] = []
    for value in values:
        fraction = Fraction(round(value * denominator), denominator)
        pairs += [fraction.numerator, fraction.denominator]
    return tuple(pairs)


def dng_bytes(
    frame: RawFrame, *, xyz_to_camera: npt.NDArray[np.float64], camera: str = "zoo darkroom"
) -> bytes:
    """Return the bytes of a DNG file that LibRaw and other RAW developers open.

    `xyz_to_camera` is the (3, 3) colour matrix for D65. White balance, black and white
    levels and the noise profile are the frame's.
    """
    import tifffile

    cfa = np.where(frame.pattern == 3, 1, frame.pattern).astype(np.uint8)
    rows, columns = cfa.shape
    black = [frame.black[int(colour)] for colour in frame.pattern.ravel()]
    tags: list[tuple[int, int, int, Any, bool]] = [
        (50706, _BYTE, 4, bytes((1, 4, 0, 0)), True),  # DNGVersion
        (50707, _BYTE, 4, bytes((1, 1, 0, 0)), True),  # DNGBackwardVersion
        (50708, _ASCII, 0, camera, True),  # UniqueCameraModel
        (33421, _SHORT, 2, (rows, columns), True),  # CFARepeatPatternDim
        (33422, _BYTE, cfa.size, cfa.tobytes(), True),  # CFAPattern
        (50710, _BYTE, 3, bytes((0, 1, 2)), True),  # CFAPlaneColor
        (50711, _SHORT, 1, 1, True),  # CFALayout: rectangular
        (50713, _SHORT, 2, (rows, columns), True),  # BlackLevelRepeatDim
        (50714, _RATIONAL, len(black), _rationals(black, 256), True),  # BlackLevel
        (50717, _LONG, 1, round(max(frame.white)), True),  # WhiteLevel
        (50721, _SRATIONAL, 9, _rationals(xyz_to_camera.ravel().tolist()), True),  # ColorMatrix1
        (50728, _RATIONAL, 3, _rationals([1 / g for g in frame.gains], 1_000_000), True),  # AsShotNeutral
        (50778, _SHORT, 1, _D65, True),  # CalibrationIlluminant1
    ]
    if frame.noise is not None:
        pairs = zip(frame.noise.shot, frame.noise.read, strict=True)
        tags.append((51041, _DOUBLE, 6, tuple(value for pair in pairs for value in pair), True))
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        frame.mosaic,
        photometric="cfa",
        metadata=None,
        software="zoo",
        extratags=tags,
        rowsperstrip=1 << 30,
    )
    return buffer.getvalue()
