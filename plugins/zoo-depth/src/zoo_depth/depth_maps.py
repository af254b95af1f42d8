"""`depth`: images with the depth of each pixel, in files of 16 bits or of NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, SampleFiles, Split, sides_of
from zoo.data.picture_files import PictureFile, check_pictures, find_pictures, folder_of, refuse_or_skip
from zoo.data.picture_folders import ImageCache
from zoo.data.random_crops import drawn, for_training
from zoo.data.splits import split_names
from zoo.errors import InputError, UsageError
from zoo.images.pixels import as_input, read_pixels, read_rgb8
from zoo.images.resizing import random_part, resize_middle
from zoo.options import option
from zoo.storage.atomic import sha256_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray

_VERSION = 1
#: Of files of depths. JPEG would smear edges.
_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".npy"})
_IMAGES, _DEPTHS = ("images", "image", "rgb"), ("depth", "depths")


@dataclass(frozen=True)
class DepthConfig:
    """Options of `depth`."""

    root: str = option("", help="folder that holds a folder images/ and a folder depth/ with the same names")
    largest: float | None = option(
        None, minimum=1e-6, maximum=1e9,
        help="the depth that becomes 1, in the numbers of the files; none: the largest in the training images",
    )  # fmt: skip
    test_share: float = option(0.2, minimum=0.0, maximum=1.0, help="share held out, by a hash of the name")
    val_share: float = option(0.1, minimum=0.0, maximum=0.9, help="share of the rest for validation")
    least_part: float = option(
        0.5, minimum=0.01, maximum=1.0, help="share of an image's area that a training crop shows at least"
    )
    skip_bad: bool = option(False, help="leave out files that cannot be used, instead of refusing them")


@dataclass(frozen=True)
class _Pair:
    image: PictureFile
    depth: Path


class DepthMaps(Dataset):
    """Images and depths of one size, paired by their names without suffix; a scene is a pair.

    Depths are whole numbers in PNG and TIFF files or an array (H, W) in NumPy files. 0 and what is not finite stands
    for pixels whose depth is not known. Evaluation sees the middle of each image, resized to the network's input;
    training sees random parts of it, mirrored at random.
    """

    contract = 1
    id: ClassVar[str] = "depth"
    summary: ClassVar[str] = "your own images with depths, in 16-bit or NumPy files"
    Config: ClassVar[type] = DepthConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"depth"})
    rectangular: ClassVar[bool] = True
    config: DepthConfig

    def __init__(self, config: DepthConfig | None = None) -> None:
        super().__init__(config)
        self._notes: list[str] = []
        self._pairs = self._found(folder_of(self.config.root, self.id, "root"))
        names = split_names(
            list(self._pairs), self.id, test=(), test_share=self.config.test_share,
            val_share=self.config.val_share,
        )  # fmt: skip
        self._splits = {split: [self._pairs[name] for name in found] for split, found in names.items()}
        self._images: ImageCache[Path] = ImageCache(read_rgb8)
        self._depths: ImageCache[Path] = ImageCache(read_depths)

    def _found(self, root: Path) -> dict[str, _Pair]:
        images, depths = _folder(root, _IMAGES), _folder(root, _DEPTHS)
        usable, faults = check_pictures(find_pictures(images), decode=self.config.skip_bad)
        self._skip(faults, "cannot be used")
        files = {
            path.relative_to(depths).with_suffix("").as_posix(): path
            for path in sorted(depths.rglob("*"))
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
        }
        alone = {file.stem: str(file.path) for file in usable if file.stem not in files}
        alone |= {stem: str(files[stem]) for stem in files.keys() - {file.stem for file in usable}}
        pairs = {file.stem: _Pair(file, files[file.stem]) for file in usable if file.stem in files}
        if not pairs:
            raise InputError(
                f"No image in {images} has the name of depths in {depths}.",
                hint=f"Images and depths ({', '.join(sorted(_SUFFIXES))}) are paired by their names without suffix.",
            )
        self._skip(alone, "without a counterpart of the same name")
        return pairs

    def _skip(self, faults: dict[str, str], what: str) -> None:
        refuse_or_skip(faults, what, self.id, self._notes, skip_bad=self.config.skip_bad)

    @cached_property
    def largest(self) -> float:
        """Return the depth that becomes 1."""
        if self.config.largest is not None:
            return self.config.largest
        pairs = for_training(self._splits["train"], self.id)
        found = max(float(read_depths(pair.depth).max()) for pair in pairs)
        if not found:
            raise InputError(
                "No depth of a training image is known: all of them are 0.", hint="Check the files."
            )
        return found

    def scenes(self, split: Split) -> Sequence[str]:
        return [pair.image.stem for pair in self._splits[split]]

    def notes(self) -> Sequence[str]:
        return self._notes

    def files(self) -> Sequence[SampleFiles]:
        return [
            SampleFiles(pair.image.stem, split, (pair.image.path,))
            for split, pairs in self._splits.items()
            for pair in pairs
        ]

    def identity(self) -> str:
        return self._identity

    @cached_property
    def _identity(self) -> str:
        digest = hashlib.sha256()
        for split, pairs in self._splits.items():
            for pair in pairs:
                line = f"{split}/{pair.image.stem}/{pair.image.digest}/{sha256_of(pair.depth)}\n"
                digest.update(line.encode())
        c = self.config
        return f"depth/{_VERSION}({len(self._pairs)};{digest.hexdigest()};{c.largest};{c.least_part:g})"

    def check(self, architecture: Architecture) -> None:
        if architecture.input.kind not in ("rgb", "gray"):
            raise UsageError(
                f"depth provides images; {architecture.id} expects {architecture.input.kind}.",
                hint="List the datasets:  zoo list datasets",
            )

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        self.check(architecture)
        for number, pair, rng in drawn(for_training(self._splits["train"], self.id), seed, start):
            # The same choices for the image and for its depths.
            part, mirrored = int(rng.integers(1 << 32)), rng.random() < 0.5
            image, depths = (
                random_part(each, sides_of(size), np.random.default_rng(part), self.config.least_part, how)
                for each, how in zip(self._read(pair), ("bilinear", "nearest"), strict=True)
            )
            if mirrored:
                image, depths = image[:, ::-1], depths[:, ::-1]
            yield self._sample(pair, f"{pair.image.stem}#{number}", image, depths, architecture)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        self.check(architecture)
        for pair in self._splits[split]:
            image, depths = self._read(pair)
            size = architecture.input.example
            whole = resize_middle(image, size, 1.0, architecture.input.interpolation)
            yield self._sample(
                pair, pair.image.stem, whole, resize_middle(depths, size, 1.0, "nearest"), architecture
            )

    def _read(self, pair: _Pair) -> tuple[Any, Any]:
        image, depths = self._images.get(pair.image.path), self._depths.get(pair.depth)
        if image.shape[:2] != depths.shape:
            raise InputError(
                f"{pair.image.path} has {image.shape[1]}x{image.shape[0]} pixels, its depths {pair.depth} "
                f"{depths.shape[1]}x{depths.shape[0]}.",
                hint="They must be of one size.",
            )
        return image, depths

    def _sample(
        self, pair: _Pair, name: str, image: npt.NDArray[Any], depths: FloatArray, architecture: Architecture
    ) -> Sample:
        share = np.clip(depths / np.float32(self.largest), 0, 1).astype(np.float32)
        inputs = as_input(image, architecture.input, pair.image.path)
        return Sample(name, pair.image.stem, inputs, np.ascontiguousarray(share)[None])


def read_depths(path: Path) -> FloatArray:
    """Return depths (H, W) in the numbers of a file; 0 where they are negative or not finite.

    Raises:
        InputError: The file cannot be read, or does not hold one number for each pixel.
    """
    if path.suffix.lower() == ".npy":
        try:
            stored = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(
                f"{path} cannot be read as an array: {error}.", hint="Write it with numpy.save."
            ) from error
    else:
        stored = read_pixels(path, indices=True)
    if stored.ndim != 2 or stored.dtype.kind not in "fiu":
        raise InputError(
            f"{path} holds {stored.dtype} {'x'.join(map(str, stored.shape))}, not a depth for each pixel.",
            hint="Depths are (H, W): one channel.",
        )
    depths = stored.astype(np.float32)
    return np.where(np.isfinite(depths) & (depths > 0), depths, np.float32(0))


def _folder(root: Path, names: Sequence[str]) -> Path:
    found = next((root / name for name in names if (root / name).is_dir()), None)
    if found is None:
        raise InputError(
            f"{root} contains no folder {' or '.join(names)}.",
            hint="depth(root=DIR) expects DIR/images and DIR/depth.",
        )
    return found
