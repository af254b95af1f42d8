"""Writing images while their rows are computed: PNG and 16-bit TIFF."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.images.png import write_png
from zoo.storage.atomic import atomic_write

if TYPE_CHECKING:
    import numpy.typing as npt

Format = Literal["png", "tiff"]
SUFFIXES: dict[Format, str] = {"png": ".png", "tiff": ".tiff"}
#: The largest value of a sample, 8 bits in PNG and 16 in TIFF.
LARGEST: dict[Format, int] = {"png": 255, "tiff": 65535}
#: Bytes of a strip of a TIFF file.
_STRIP = 1 << 20


def sample_bytes(format: Format) -> int:  # noqa: A002
    """Return the bytes of one sample."""
    return 1 if LARGEST[format] == 255 else 2


def needs_whole(channels: int) -> bool:
    """Return whether an image must be complete before it is written: its masks follow each other in the file."""
    return channels not in (1, 3)


def write_picture(
    path: Path,
    parts: Iterable[npt.NDArray[Any]],
    width: int,
    height: int,
    channels: int,
    format: Format,  # noqa: A002
) -> None:
    """Write an upright image while it is computed; the file appears whole or not at all.

    Args:
        path: The file, which is replaced if it exists.
        parts: (rows, width, channels) from the top down, `height` rows in all; uint8 for PNG, uint16 for TIFF.
        width: Of the image.
        height: Of the image.
        channels: Three for RGB, one for gray; others become the pages of a TIFF file.
        format: Of the file.

    Raises:
        OutputError: The file cannot be written. What computing the parts raises is passed on.
    """
    import numpy as np

    with atomic_write(path) as stream:
        if format == "png":
            write_png(stream, width, height, channels, parts)
            return
        import tifffile

        write = functools.partial(tifffile.imwrite, stream, metadata=None, software="zoo")
        if needs_whole(channels):
            pages = np.concatenate(list(parts)).transpose(2, 0, 1)
            write(pages, photometric="minisblack")
            return
        rows = max(1, _STRIP // (2 * width * channels))
        write(
            _strips(parts, rows),
            shape=(height, width, channels) if channels == 3 else (height, width),
            dtype=np.uint16,
            byteorder="<",
            rowsperstrip=rows,
            photometric="rgb" if channels == 3 else "minisblack",
        )


def _strips(parts: Iterable[npt.NDArray[Any]], rows: int) -> Iterator[bytes]:
    """Yield the same rows, a number of them at once, as little-endian bytes."""
    import numpy as np

    held: list[npt.NDArray[Any]] = []
    count = 0
    for part in parts:
        at = 0
        while at < len(part):
            taken = part[at : at + rows - count]
            held.append(taken)
            count += len(taken)
            at += len(taken)
            if count == rows:
                yield np.concatenate(held).astype("<u2", copy=False).tobytes()
                held, count = [], 0
    if held:
        yield np.concatenate(held).astype("<u2", copy=False).tobytes()
