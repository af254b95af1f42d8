"""Photographs as the input of networks that take RGB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import InputSpec


def read_rgb(path: Path, spec: InputSpec) -> npt.NDArray[np.float32]:
    """A photograph as (1, 3, H, W) in [0, 1], H and W those of the spec's example.

    It is turned upright, scaled until its shorter side fits, and cut to the middle. Raises InputError.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}; a photograph (PNG, JPEG, ...) is needed.")
    height, width = spec.example
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            fitted = ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} cannot be read as a photograph: {error}.",
            hint="This network takes PNG, JPEG and the like.",
        ) from error
    pixels = np.asarray(fitted, dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
