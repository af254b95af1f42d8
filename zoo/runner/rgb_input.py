"""Photographs as the input of networks that take RGB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.images.pixels import read_rgb8

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import InputSpec


def read_rgb(path: Path, spec: InputSpec) -> npt.NDArray[np.float32]:
    """Return a photograph as (1, 3, H, W) in [0, 1], H and W those of the spec's example.

    It is turned upright, scaled until its shorter side fits, and cut to the middle.

    Raises:
        InputError: The file cannot be read.
    """
    import numpy as np
    from PIL import Image, ImageOps

    height, width = spec.example
    fitted = ImageOps.fit(Image.fromarray(read_rgb8(path)), (width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(fitted, dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
