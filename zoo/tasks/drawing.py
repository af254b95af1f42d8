"""Pictures of what networks output."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray

    Picture = npt.NDArray[np.uint8]


def as_picture(image: FloatArray) -> Picture:
    """Return (C, H, W) in [0, 1] as (H, W) or (H, W, 3) uint8: gray of one channel, black where there are only two."""
    pixels: Picture = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if len(pixels) == 1:
        return np.asarray(pixels[0])
    missing = np.zeros_like(pixels[: max(0, 3 - len(pixels))])
    return np.ascontiguousarray(np.concatenate([pixels[:3], missing]).transpose(1, 2, 0))


def colour_of(index: int) -> tuple[int, int, int]:
    """Return the colour of a class: black for the first, then hues that lie far apart."""
    if index == 0:
        return 0, 0, 0
    red, green, blue = colorsys.hsv_to_rgb((index - 1) * 0.61803398875 % 1, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def coloured_classes(classes: npt.NDArray[np.intp]) -> Picture:
    """Return the class of each pixel, (H, W), in colours, (H, W, 3)."""
    table = np.array([colour_of(index) for index in range(int(classes.max()) + 1)], np.uint8)
    return table[classes]


def class_shares(classes: npt.NDArray[np.intp], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the share of the pixels that each class of (H, W) has, the largest first."""
    counts = np.bincount(classes.ravel())
    return [
        {
            "class": int(index),
            "label": names[index] if index < len(names) else "",
            "share": float(counts[index] / classes.size),
        }
        for index in np.argsort(-counts, kind="stable")
        if counts[index]
    ]


def with_boxes(image: FloatArray, rows: Sequence[Mapping[str, Any]]) -> Picture:
    """Return an image (C, H, W) in [0, 1] with boxes drawn on it, (H, W, 3)."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(as_picture(image)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    width = max(1, round(min(picture.size) / 200))
    for row in reversed(rows):
        x0, y0, x1, y1 = row["box"]
        colour = colour_of(int(row["class"]) + 1)
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=width)
        text = f"{row['label'] or row['class']} {row['confidence']:.2f}"
        place = draw.textbbox((x0, max(0, y0 - 11)), text)
        draw.rectangle(place, fill=colour)
        draw.text(place[:2], text, fill=(0, 0, 0))
    return np.asarray(picture)
