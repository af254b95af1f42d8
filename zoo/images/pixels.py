"""Image files of any depth, as stored and as a network takes them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, ZooError
from zoo.images.tiff import as_brightness, check_planes, is_signed, is_tiff
from zoo.storage.atomic import open_linked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image as Pillow

    from zoo.contracts import FloatArray, InputSpec

#: Of image files; RAW files have others.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})
#: Modes of Pillow that are read as they are; the others become RGB.
_PLAIN_MODES = frozenset({"1", "L", "RGB", "F", "I"})
#: the tag of EXIF for how to turn an image, and its values for a quarter turn
_ORIENTATION, _TURNED = 0x0112, range(5, 9)
#: weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)
_LUMA = (0.299, 0.587, 0.114)


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Pillow.Image]:
    """Open an image file; its pixels are decoded when the body asks for them.

    Raises:
        InputError: The file cannot be opened or decoded; the message names it.
    """
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}; an image (PNG, TIFF, JPEG, ...) is required.")
    try:
        # Given a name, Pillow maps turned TIFF files into memory with their sides swapped.
        with open_linked(path) as file:
            with warnings.catch_warnings():
                # that it is large, the memory limit tells
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                opened = Image.open(file)
            with opened as image:
                yield image
    except (ZooError, MemoryError):
        raise
    except Exception as error:  # whatever Pillow's readers stumble over
        unknown = isinstance(error, UnidentifiedImageError)
        raise InputError(
            f"{path} cannot be read as an image: {'its kind is not known' if unknown else error}.",
            hint="Use a PNG, TIFF, JPEG, WebP or BMP file.",
        ) from error


def image_size(path: Path) -> tuple[int, int]:
    """Return the width and height of an image as it is shown; its pixels are not decoded.

    Raises:
        InputError: The file cannot be opened; the message names it.
    """
    from PIL import Image

    with open_image(path) as image:
        width, height = image.size
        # Asked by itself, a PNG file without EXIF data is decoded: there might be some behind its pixels.
        exif = Image.Image.getexif(image)
        turned = not is_tiff(image) and exif.get(_ORIENTATION, 1) in _TURNED
        return (height, width) if turned else (width, height)


def read_pixels(
    path: Path, page: int = 0, *, indices: bool = False, upright: bool = False
) -> npt.NDArray[Any]:
    """Return the pixels as stored: (H, W) or (H, W, 3), 8 or 16 bits, truth values or floats.

    What is transparent is put on white, as viewers and printers show it; CMYK becomes RGB.

    Args:
        path: The file.
        page: Of a stack.
        indices: Of an image with a palette, return the numbers it holds instead of the colours they stand for.
        upright: Turn the image as its EXIF data says; TIFF files always are.

    Raises:
        InputError: The file cannot be read; it is named.
    """
    import numpy as np
    from PIL import ImageOps

    with open_image(path) as image:
        image.seek(page)
        check_planes(image, path)
        turned = ImageOps.exif_transpose(image) if upright else image
        if turned.mode == "P" and indices:
            return np.asarray(turned)
        if turned.mode.startswith("I;16"):
            pixels = np.asarray(turned).astype(np.uint16)
            pixels[pixels == turned.info.get("transparency", -1)] = 0xFFFF
            return as_brightness(pixels, image)
        pixels = np.asarray(_opaque(turned))
        # what older versions of Pillow make of 16-bit files
        deep = turned.mode == "I" and _fits(pixels) and not is_signed(image)
        return as_brightness(pixels.astype(np.uint16) if deep else pixels, image)


def read_rgb8(path: Path) -> npt.NDArray[np.uint8]:
    """Return an upright image as (H, W, 3), 8 bits; gray is repeated, deeper values are rounded.

    Raises:
        InputError: The file cannot be read; the message names it.
    """
    import numpy as np

    pixels = read_pixels(path, upright=True)
    if pixels.dtype != np.uint8:
        pixels = np.rint(_scaled(pixels, path) * 255).astype(np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, axis=2)


def _opaque(image: Pillow.Image) -> Pillow.Image:
    """Return an image in a mode that is read as it is, with what is transparent on white."""
    from PIL import Image

    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        gray = image.mode in ("1", "L", "LA")
        shown = image.convert("RGBA")
        white = Image.new("RGBA", shown.size, "white")
        return Image.alpha_composite(white, shown).convert("L" if gray else "RGB")
    return image if image.mode in _PLAIN_MODES else image.convert("RGB")


def as_input(pixels: npt.NDArray[Any], spec: InputSpec, name: object) -> FloatArray:
    """Return pixels as the input of a network, (channels, H, W) in [0, 1].

    A network for gray gets the brightness of colours; one for RGB gets gray three times.

    Args:
        pixels: (H, W) or (H, W, 3), of any unsigned type or floats in [0, 1].
        spec: Input of the network.
        name: Of the picture, for messages.

    Raises:
        InputError: A value lies beyond 0 to 1.
    """
    import numpy as np

    scaled = _scaled(pixels, name)
    if spec.kind == "gray":
        gray = scaled if scaled.ndim == 2 else scaled @ np.array(_LUMA, dtype=np.float32)
        return np.ascontiguousarray(gray[None])
    rgb = scaled if scaled.ndim == 3 else scaled[..., None].repeat(3, axis=2)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))


def _scaled(pixels: npt.NDArray[Any], name: object) -> FloatArray:
    """Return pixels in [0, 1] as float32. Raises InputError for values whose range is not known."""
    import numpy as np

    scaled = pixels.astype(np.float32)
    if np.issubdtype(pixels.dtype, np.unsignedinteger):
        scaled /= np.float32(np.iinfo(pixels.dtype).max)
    elif not (np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1):
        raise InputError(
            f"{name} has {pixels.dtype} values outside 0 to 1; only values of 8 and 16 bits are scaled automatically.",
            hint="Scale its values to 0 to 1, or save it with 8 or 16 bits per sample.",
        )
    return scaled


def _fits(pixels: npt.NDArray[Any]) -> bool:
    return bool(pixels.size and pixels.min() >= 0 and pixels.max() <= 0xFFFF)
