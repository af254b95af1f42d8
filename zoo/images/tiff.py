"""What TIFF files say of their values that Pillow passes over, or reads wrong without a word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image as Pillow

_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339
_WHITE_IS_ZERO, _SEPARATE, _SIGNED = 0, 2, 2


def check_planes(image: Pillow.Image, path: Path) -> None:
    """Refuse the colours of a TIFF file in planes of their own with more than 8 bits: Pillow mixes them up.

    Raises:
        InputError: They are stored so.
    """
    tags = _tags(image)
    bits = tags.get(_BITS, (1,))
    if tags.get(_PLANES) == _SEPARATE and len(bits) > 1 and max(bits) > 8:
        raise InputError(
            f"{path} stores each color of {max(bits)} bits in a plane of its own, which cannot be read.",
            hint="Save it with its colors interleaved (planar configuration 1), or as PNG.",
        )


def as_brightness(pixels: npt.NDArray[Any], image: Pillow.Image) -> npt.NDArray[Any]:
    """Return gray values, (H, W), 16 bits or floats, so that more is brighter and all bits are used.

    Args:
        pixels: As Pillow gives them.
        image: Where they are from, of any format.
    """
    import numpy as np

    tags = _tags(image)
    if pixels.dtype == np.uint16 and tags.get(_BITS) == (12,):
        pixels = pixels << 4 | pixels >> 8
    if tags.get(_PHOTOMETRIC) != _WHITE_IS_ZERO or pixels.dtype not in (np.uint16, np.float32):
        return pixels
    return 1 - pixels if pixels.dtype == np.float32 else 0xFFFF - pixels


def is_signed(image: Pillow.Image) -> bool:
    """Return whether a TIFF file says that its integers have a sign; what is white in such files is not known."""
    return _SIGNED in _tags(image).get(_SAMPLE_FORMAT, ())


def is_tiff(image: Pillow.Image) -> bool:
    """Return whether an image is a TIFF file; Pillow turns those upright by itself, and states their turned size."""
    return hasattr(image, "tag_v2") and image.format == "TIFF"


def _tags(image: Pillow.Image) -> Any:
    return getattr(image, "tag_v2", {})
