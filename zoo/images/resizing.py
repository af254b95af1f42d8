"""Fitting pictures to the input of a classifier: the middle for evaluation, random parts for training.

The evaluation transform is that of timm and torchvision: the shorter side is resized to ``floor(side / crop_pct)``
pixels, and the middle is cut out. Wightman, "PyTorch Image Models",
https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contracts.architecture import Interpolation

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image as Pillow

    Pixels = npt.NDArray[np.uint8]

#: Inputs up to this side are thumbnails, which are shown whole.
THUMBNAIL = 64
_CROP_PCT = 0.875
_INTERPOLATION: Interpolation = "bicubic"
#: Of random parts: width to height.
_ASPECT = (3 / 4, 4 / 3)


def crop_pct_of(stated: float | None, size: tuple[int, int]) -> float:
    """Return the share of the resized picture's side that is cut out: as stated, or by the size of the input."""
    return stated or (1.0 if max(size) <= THUMBNAIL else _CROP_PCT)


def resize_middle(
    pixels: Pixels, size: tuple[int, int], crop_pct: float, interpolation: Interpolation | None
) -> Pixels:
    """Return the middle of a picture, as evaluation sees it.

    Args:
        pixels: (H, W, 3) or (H, W).
        size: Height and width of the result.
        crop_pct: Share of the resized picture's shorter side that is kept.
        interpolation: How to resize; None for bicubic.
    """
    covered = (math.floor(size[0] / crop_pct), math.floor(size[1] / crop_pct))
    cover = _cover(pixels, covered, interpolation)
    top, left = (round((have - want) / 2) for have, want in zip(cover.shape[:2], size, strict=True))
    return cover[top : top + size[0], left : left + size[1]]


def random_part(
    pixels: Pixels,
    size: tuple[int, int],
    rng: np.random.Generator,
    least: float,
    interpolation: Interpolation | None,
) -> Pixels:
    """Return a random part of a picture, resized.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015.

    Args:
        pixels: (H, W, 3) or (H, W).
        size: Height and width of the result.
        rng: The source of the choices.
        least: Share of the picture's area that the part covers at least.
        interpolation: How to resize; None for bicubic.
    """
    height, width = pixels.shape[:2]
    wanted = size[1] / size[0]
    for _ in range(10):
        area = height * width * rng.uniform(least, 1.0)
        aspect = wanted * math.exp(rng.uniform(*np.log(_ASPECT)))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            top = int(rng.integers(height - rows + 1))
            left = int(rng.integers(width - columns + 1))
            return _resized(pixels[top : top + rows, left : left + columns], size, interpolation)
    return resize_middle(pixels, size, 1.0, interpolation)


def shifted(
    pixels: Pixels, size: tuple[int, int], rng: np.random.Generator, interpolation: Interpolation | None
) -> Pixels:
    """Return a whole small picture, moved by up to an eighth of its side; what comes in is black.

    For 32x32 these are the four pixels of He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

    Args:
        pixels: (H, W, 3) or (H, W).
        size: Height and width of the result.
        rng: The source of the choices.
        interpolation: How to resize; None for bicubic.
    """
    whole = resize_middle(pixels, size, 1.0, interpolation)
    by = [max(1, side // 8) for side in size]
    padded = np.pad(whole, ((by[0], by[0]), (by[1], by[1]), *((0, 0),) * (whole.ndim - 2)))
    top, left = (int(rng.integers(2 * each + 1)) for each in by)
    return padded[top : top + size[0], left : left + size[1]]


def _cover(pixels: Pixels, size: tuple[int, int], interpolation: Interpolation | None) -> Pixels:
    """Resize a picture, keeping its proportions, so that it just covers `size`."""
    height, width = pixels.shape[:2]
    if size[0] == size[1]:
        # torchvision rounds the longer side down
        scaled = [int(size[0] * side / min(height, width)) for side in (height, width)]
    else:
        ratio = min(height / size[0], width / size[1])
        scaled = [round(side / ratio) for side in (height, width)]
    rows, columns = (max(side, least) for side, least in zip(scaled, size, strict=True))
    return _resized(pixels, (rows, columns), interpolation)


def _resized(pixels: Pixels, size: tuple[int, int], interpolation: Interpolation | None) -> Pixels:
    from PIL import Image

    if pixels.shape[:2] == size:
        return pixels
    image: Pillow.Image = Image.fromarray(np.ascontiguousarray(pixels))
    method: Any = Image.Resampling[(interpolation or _INTERPOLATION).upper()]
    return np.asarray(image.resize((size[1], size[0]), method))
