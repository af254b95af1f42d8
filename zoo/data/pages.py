"""Pictures of any depth: files of a folder, or the pages of a TIFF stack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.images.pixels import SUFFIXES, open_image, read_pixels
from zoo.storage.atomic import open_linked

if TYPE_CHECKING:
    import numpy.typing as npt

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Page:
    """A page of a picture file; the first one for files that have only one.

    Attributes:
        indices: Whether a picture with a palette is read as the numbers it holds, which is what label
            pictures mean, and not as the colours they stand for.
    """

    path: Path
    index: int = 0
    indices: bool = False

    def __str__(self) -> str:
        return f"page {self.index} of {self.path}" if self.index else str(self.path)


def pages_of(source: Path, *, indices: bool = False, faults: dict[str, str] | None = None) -> dict[str, Page]:
    """Return the pictures in a folder (and below it), or the pages of a file, by name and in natural order.

    A file is called after its path in the folder without the suffix, a page of a stack ``stack-007``.

    Args:
        source: Folder or file.
        indices: See :class:`Page`.
        faults: Receives what is wrong with files that cannot be read, by their paths; None to refuse them.

    Raises:
        InputError: There are none, or two have one name.
    """
    if source.is_file():
        return _stack(source, source.stem, indices)
    if not source.is_dir():
        raise InputError(f"{source} does not exist; a folder of images or a TIFF stack is required.")
    files = [path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    pages: dict[str, Page] = {}
    for path in sorted(files, key=lambda path: _natural(path.relative_to(source).as_posix())):
        name = path.relative_to(source).with_suffix("").as_posix()
        stack = path.suffix.lower() in (".tif", ".tiff")
        try:
            found = _stack(path, name, indices) if stack else {name: Page(path, indices=indices)}
        except InputError as error:
            if faults is None:
                raise
            faults[str(path)] = error.message
            continue
        twice = pages.keys() & found.keys()
        if twice:
            name = min(twice)
            raise InputError(f"Two images are called '{name}': {pages[name]} and {found[name]}.")
        pages |= found
    if not pages:
        raise InputError(
            f"The folder {source} contains no images.", hint=f"Known suffixes: {' '.join(sorted(SUFFIXES))}"
        )
    return pages


def read_page(page: Page) -> npt.NDArray[Any]:
    """Return the pixels as stored, see :func:`zoo.images.pixels.read_pixels`."""
    return read_pixels(page.path, page.index, indices=page.indices)


def is_indexed(page: Page) -> bool:
    """Return whether the pixels of a page are numbers of colours in a palette."""
    with open_image(page.path) as image:
        image.seek(page.index)
        return image.mode == "P"


def _stack(path: Path, name: str, indices: bool) -> dict[str, Page]:
    from PIL import Image

    try:
        with open_linked(path) as file, Image.open(file) as image:
            count = getattr(image, "n_frames", 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error
    if count == 1:
        return {name: Page(path, indices=indices)}
    return {f"{name}-{index:03}": Page(path, index, indices) for index in range(count)}


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts slice 2 before slice 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(name)]
