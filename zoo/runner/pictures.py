"""Writing pictures: orientation, PNG and 16-bit TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.files import atomic_write

if TYPE_CHECKING:
    import numpy.typing as npt

Format = Literal["png", "tiff"]
SUFFIXES: dict[Format, str] = {"png": ".png", "tiff": ".tiff"}
#: The largest value of a sample, 8 bits in PNG and 16 in TIFF.
LARGEST: dict[Format, int] = {"png": 255, "tiff": 65535}
#: Quarter turns counter-clockwise for each of LibRaw's orientations.
_TURNS = {0: 0, 3: 2, 5: 1, 6: 3}


def empty_picture(height: int, width: int, channels: int, format: Format) -> npt.NDArray[Any]:  # noqa: A002
    """An array (height, width, channels) of the sample type of a format."""
    import numpy as np

    return np.empty((height, width, channels), dtype=np.uint8 if LARGEST[format] == 255 else np.uint16)


def write_picture(path: Path, picture: npt.NDArray[Any], format: Format, flip: int) -> tuple[int, int]:  # noqa: A002
    """Turn a picture upright and write it in one step; its width and height as written.

    picture: (H, W, channels); three are colours, one is gray, others become the pages of a TIFF file. Raises
    OutputError.
    """
    import numpy as np

    upright = np.ascontiguousarray(np.rot90(picture, _TURNS[flip]))
    height, width, channels = upright.shape
    if channels == 1:
        upright = upright[..., 0]
    with atomic_write(path) as stream:
        if format == "png":
            from PIL import Image

            # Level 1 takes a quarter of the time of the default and gives files some per cent larger.
            Image.fromarray(upright).save(stream, format="PNG", compress_level=1)
        else:
            import tifffile

            kind = "rgb" if channels == 3 else "minisblack"
            pages = upright if channels in (1, 3) else upright.transpose(2, 0, 1)
            tifffile.imwrite(stream, pages, photometric=kind, metadata=None, software="zoo")
    return width, height
