"""Pictures of any depth from files, as stored and as a network takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray, InputSpec

#: Of picture files; RAW files have others.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})
#: Modes of Pillow that are read as they are; the others become RGB.
_PLAIN_MODES = frozenset({"1", "L", "RGB", "F", "I"})
#: weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)
_LUMA = (0.299, 0.587, 0.114)


def read_pixels(
    path: Path, page: int = 0, *, indices: bool = False, upright: bool = False
) -> npt.NDArray[Any]:
    """The pixels as stored: (H, W) or (H, W, 3), 8 or 16 bits, truth values or floats.

    page: of a stack. indices: of a picture with a palette, the numbers it holds instead of the colours they stand
    for. upright: turned as its EXIF data says. Raises InputError naming the file.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}; a picture (PNG, TIFF, JPEG, ...) is needed.")
    try:
        with Image.open(path) as image:
            image.seek(page)
            turned = ImageOps.exif_transpose(image) if upright else image
            if turned.mode.startswith("I;16"):
                return np.asarray(turned).astype(np.uint16)
            plain = turned.mode in _PLAIN_MODES or (turned.mode == "P" and indices)
            pixels = np.asarray(turned if plain else turned.convert("RGB"))
            # what older versions of Pillow make of 16-bit files
            return pixels.astype(np.uint16) if turned.mode == "I" and _fits(pixels) else pixels
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}") from error


def as_input(pixels: npt.NDArray[Any], spec: InputSpec, name: object) -> FloatArray:
    """Pixels of any unsigned type, or floats in [0, 1], as (channels, H, W) in [0, 1].

    A net that takes gray gets the brightness of colours, one that takes RGB gets gray three times. Raises InputError
    naming `name` for values beyond 0 to 1.
    """
    import numpy as np

    scaled = pixels.astype(np.float32)
    if np.issubdtype(pixels.dtype, np.unsignedinteger):
        scaled /= np.float32(np.iinfo(pixels.dtype).max)
    elif not (np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1):
        raise InputError(
            f"{name} holds {pixels.dtype} values beyond 0 to 1; those of 8 or 16 bits are taken as they are."
        )
    if spec.kind == "gray":
        gray = scaled if scaled.ndim == 2 else scaled @ np.array(_LUMA, dtype=np.float32)
        return np.ascontiguousarray(gray[None])
    rgb = scaled if scaled.ndim == 3 else scaled[..., None].repeat(3, axis=2)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))


def _fits(pixels: npt.NDArray[Any]) -> bool:
    return bool(pixels.size and pixels.min() >= 0 and pixels.max() <= 0xFFFF)
