"""Many small images with captions on one sheet, so that a person sees at a glance what a dataset holds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.images.pixels import read_rgb8

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import Sample, SampleFiles

    Pixels = npt.NDArray[np.uint8]

#: Side of an image, the space around it, and the height of the two lines below it, in pixels.
_SIDE, _GAP, _TEXT = 112, 8, 30
_IN_A_ROW = 8
_LONGEST = 18
_SMALLEST_SHOWN = 64
_BACKGROUND, _INK, _FAINT, _BOX = (255, 255, 255), (20, 20, 20), (110, 110, 110), (230, 40, 40)
#: Boxes that are drawn into an image.
_MOST_BOXES = 500


@dataclass(frozen=True)
class Tile:
    """One or two images side by side.

    Attributes:
        images: (H, W, 3) each.
        caption: What is in it.
        origin: Where it is from, in smaller print.
    """

    images: tuple[Pixels, ...]
    caption: str
    origin: str


def file_tile(files: SampleFiles) -> Tile:
    """Return the images of a sample as they are stored."""
    from PIL import Image

    shown = []
    for path in files.images[:2]:
        image = Image.fromarray(read_rgb8(path))
        image.thumbnail((_SIDE, _SIDE))
        shown.append(np.asarray(image))
    return Tile(tuple(shown), ", ".join(files.labels) or files.name, f"{files.split}: {files.name}")


def sample_tile(sample: Sample, what: str, names: Sequence[str]) -> Tile:
    """Return a sample as a network gets it.

    Args:
        sample: The sample.
        what: It is for, for the caption.
        names: Of the classes, if they are known.
    """
    image = _picture(sample.inputs)
    target = sample.target
    if target is None:
        return Tile((image,), "no label", f"{what}: {sample.scene}")
    if target.ndim == 0:
        label = int(target)
        return Tile((image,), names[label] if label < len(names) else str(label), f"{what}: {sample.scene}")
    if target.ndim == 2 and target.dtype == np.float32 and target.shape[1] == 5:
        return Tile((_boxed(image, target),), _counts(target, names), f"{what}: {sample.scene}")
    if target.ndim == 2:
        target = target[None] / max(1, int(target.max()))
    if target.ndim == 3:
        return Tile((image, _picture(np.asarray(target, dtype=np.float32))), sample.scene, what)
    return Tile((image,), "x".join(map(str, target.shape)), f"{what}: {sample.scene}")


def draw_sheet(tiles: Sequence[Tile], title: str) -> bytes:
    """Return PNG bytes.

    Args:
        tiles: What to show, row by row.
        title: Above the images.
    """
    from PIL import Image, ImageDraw, ImageFont

    width = max((len(tile.images) for tile in tiles), default=1) * _SIDE
    columns = max(1, _IN_A_ROW * _SIDE // width)
    rows = -(-len(tiles) // columns)
    sheet = Image.new(
        "RGB",
        (columns * (width + _GAP) + _GAP, rows * (_SIDE + _TEXT + _GAP) + _GAP + _TEXT),
        _BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(13), ImageFont.load_default(10)
    draw.text((_GAP, _GAP), title, fill=_INK, font=large)
    for index, tile in enumerate(tiles):
        left = _GAP + index % columns * (width + _GAP)
        top = _TEXT + _GAP + index // columns * (_SIDE + _TEXT + _GAP)
        for number, pixels in enumerate(tile.images):
            image = _fitted(pixels)
            sheet.paste(
                image, (left + number * _SIDE + (_SIDE - image.width) // 2, top + (_SIDE - image.height) // 2)
            )
        draw.text((left, top + _SIDE + 1), _short(tile.caption, len(tile.images)), fill=_INK, font=large)
        draw.text(
            (left, top + _SIDE + 17), _short(tile.origin, len(tile.images), 22), fill=_FAINT, font=small
        )
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _fitted(pixels: Pixels) -> Any:
    """Return an image of at most the side of a tile; small ones are enlarged pixel by pixel."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = _SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(
        (size[0], size[1]), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    )


def _picture(image: npt.NDArray[np.float32]) -> Pixels:
    """Return (C, H, W) in [0, 1] as (H, W, 3); packed Bayer data with a display curve, of others some channels."""
    if len(image) == 4:
        image = np.stack([image[0], (image[1] + image[3]) / 2, image[2]]) ** np.float32(1 / 2.2)
    elif len(image) == 2:
        image = np.concatenate([image, image[:1] * 0])
    rgb = image.repeat(3, axis=0) if len(image) == 1 else image[:3]
    return np.rint(np.clip(rgb, 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)


def _boxed(image: Pixels, boxes: npt.NDArray[np.float32]) -> Pixels:
    from PIL import Image, ImageDraw

    shown = Image.fromarray(np.ascontiguousarray(image))
    scale = max(1.0, _SMALLEST_SHOWN / max(shown.size), min(4.0, max(shown.size) / _SIDE))
    draw = ImageDraw.Draw(shown)
    for x0, y0, x1, y1, _ in boxes[:_MOST_BOXES]:
        corners = [float(x0), float(y0), max(float(x0), float(x1)), max(float(y0), float(y1))]
        draw.rectangle(corners, outline=_BOX, width=round(scale))
    return np.asarray(shown)


def _counts(boxes: npt.NDArray[np.float32], names: Sequence[str]) -> str:
    """Return how many boxes of each class there are: "2 cat, 1 dog"."""
    labels, counts = np.unique(boxes[:, 4].astype(int), return_counts=True)
    shown = [
        f"{count} {names[label] if label < len(names) else f'class {label}'}"
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
    ]
    return ", ".join(shown) or "no boxes"


def _short(text: str, images: int, longest: int = _LONGEST) -> str:
    """Return a text that fits below a tile; the end of a path says more than its start."""
    longest *= images
    printable = "".join(each if each.isprintable() else "?" for each in text)
    return printable if len(printable) <= longest else f"...{printable[3 - longest :]}"
