"""Fitting an image with boxes to the input of a detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray

#: Of the edges, as YOLO has them since Darknet.
_GRAY = 114


def letterbox(
    pixels: npt.NDArray[np.uint8], boxes: FloatArray, size: tuple[int, int], *, stretch: bool = False
) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """Return a whole image in the size of an input, and its boxes there, cut to the image.

    Args:
        pixels: (H, W, 3).
        boxes: (n, 5): x0, y0, x1, y1 in pixels of the image, and a class.
        size: Height and width of the result.
        stretch: Whether the image is stretched to it; else its proportions are kept, it is put in the middle, and the
            edges are gray.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    scales = size[1] / width, size[0] / height
    across, down = scales if stretch else (min(scales), min(scales))
    columns, rows = max(1, round(width * across)), max(1, round(height * down))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scaled = np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))
    left, top = (size[1] - columns) // 2, (size[0] - rows) // 2
    whole = np.full((*size, 3), _GRAY, dtype=np.uint8)
    whole[top : top + rows, left : left + columns] = scaled
    moved = np.array(boxes, dtype=np.float32)
    for axis, ratio, offset, length in ((0, columns / width, left, columns), (1, rows / height, top, rows)):
        corners = moved[:, axis:4:2] * np.float32(ratio)
        moved[:, axis:4:2] = np.clip(corners, 0, length) + np.float32(offset)
    return whole, moved[(moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])]
