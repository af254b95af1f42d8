"""Finding photographs: those that scikit-image and scikit-learn ship, and folders of the user's own."""

from __future__ import annotations

import hashlib
import importlib.util
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zoo.errors import InputError
from zoo.extras import IN_THE_CLONE, install_command
from zoo.images.pixels import SUFFIXES, read_rgb8

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import Split

Key = TypeVar("Key", bound=Hashable)

#: Photographs inside installed packages: (package, folder, file names). One name a scene.
_PACKAGED = (
    (
        "skimage",
        "data",
        (
            "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "gravel.png",
            "ihc.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg",
        ),
    ),
    ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
)  # fmt: skip
_SMALLEST = 64
_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Picture:
    """A photograph file; `scene` is its name without the suffix."""

    scene: str
    path: Path


def packaged_pictures() -> list[Picture]:
    """Return the photographs found in installed packages; needs no download."""
    found = []
    for package, folder, names in _PACKAGED:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        root = Path(spec.origin).parent / folder
        found += [Picture(Path(name).stem, root / name) for name in names if (root / name).is_file()]
    return found


def folder_pictures(folder: Path) -> list[Picture]:
    """Return all photographs below `folder`, in order of their names.

    Raises:
        InputError: There are none.
    """
    if not folder.is_dir():
        raise InputError(f"The photograph folder {folder} does not exist or is not a folder.")
    found = [
        Picture(path.relative_to(folder).with_suffix("").as_posix(), path)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        raise InputError(
            f"The folder {folder} contains no photographs.",
            hint=f"Known suffixes: {' '.join(sorted(SUFFIXES))}",
        )
    return found


def split_of(scene: str) -> Split:
    """Return the split a scene falls in, by a hash of its name: about 70 % train, 10 % val, 20 % test."""
    bucket = int.from_bytes(hashlib.sha256(scene.encode()).digest()[:8], "big") % 10
    return "test" if bucket < 2 else "val" if bucket == 2 else "train"


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Return an upright 8-bit sRGB picture, (H, W, 3), cropped to even sides.

    Raises:
        InputError: The file cannot be read; the message names it.
    """
    pixels = read_rgb8(path)
    height, width = (side - side % 2 for side in pixels.shape[:2])
    if min(height, width) < _SMALLEST:
        raise InputError(
            f"The photograph {path} is only {width}x{height}; each side must be at least {_SMALLEST}."
        )
    return pixels[:height, :width]


class ImageSet:
    """Photographs by split, with the last ones read kept in memory.

    Args:
        folders: Of the user's own photographs.
        packaged: Whether those of installed packages join in.

    Raises:
        InputError: Two share a name, or there are none.
    """

    def __init__(self, folders: Iterable[str], *, packaged: bool) -> None:
        pictures = packaged_pictures() if packaged else []
        for folder in folders:
            pictures += folder_pictures(Path(folder).expanduser())
        by_scene: dict[str, Path] = {}
        for picture in pictures:
            if picture.scene in by_scene:
                raise InputError(
                    f"Two photographs are called '{picture.scene}': {by_scene[picture.scene]} and {picture.path}.",
                    hint="Rename one of them: scenes are identified by name.",
                )
            by_scene[picture.scene] = picture.path
        if not pictures:
            raise InputError(
                "No photographs were found.",
                hint=f"Name a folder: --photos DIR, or install scikit-image, {IN_THE_CLONE}:  "
                f"{install_command('compress')}",
            )
        self._pictures = tuple(pictures)
        self._cache: ImageCache[Path] = ImageCache(read_picture)

    def of(self, split: Split) -> list[Picture]:
        """Return the photographs of a split, in a fixed order."""
        return [picture for picture in self._pictures if split_of(picture.scene) == split]

    def draw(self, rng: np.random.Generator) -> Picture:
        """Return a random photograph for training.

        Raises:
            InputError: The training split is empty.
        """
        pictures = self.of("train")
        if not pictures:
            raise InputError("There are no photographs for training.", hint="Add some: --photos DIR")
        return pictures[int(rng.integers(len(pictures)))]

    def pixels(self, picture: Picture) -> npt.NDArray[np.uint8]:
        """See :func:`read_picture`."""
        return self._cache.get(picture.path)

    def identity(self) -> str:
        """Return names and sizes of all files."""
        return ",".join(f"{p.scene}:{p.path.stat().st_size}" for p in self._pictures)


class ImageCache(Generic[Key]):
    """The last pictures that `read` gave, up to a fixed number of bytes."""

    def __init__(self, read: Callable[[Key], npt.NDArray[Any]], limit: int = _CACHE_BYTES) -> None:
        self._read = read
        self._limit = limit
        self._held: OrderedDict[Key, npt.NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key) -> npt.NDArray[Any]:
        """Return the image of `key`, read again only if it is no longer in memory."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        pixels = self._held[key] = self._read(key)
        self._bytes += pixels.nbytes
        while self._bytes > self._limit and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
        return pixels
