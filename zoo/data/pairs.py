"""`pairs`: images and what a network should make of them: without noise, sharp, or of a higher resolution."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, InputSpec, Sample, SampleFiles, Split
from zoo.data.pair_checks import refuse_equal_pairs
from zoo.data.picture_files import (
    PictureFile,
    check_pictures,
    find_pictures,
    folder_of,
    listed,
    refuse_or_skip,
)
from zoo.data.picture_folders import ImageCache
from zoo.data.random_crops import drawn, for_training, random_window
from zoo.data.splits import split_names
from zoo.errors import InputError, UsageError
from zoo.images.pixels import as_input, image_size, read_pixels
from zoo.options import option

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray

_VERSION = 1


@dataclass(frozen=True)
class PairsConfig:
    """Options of `pairs`."""

    input: str = option("", help="folder of input images; without it they are made of the targets")
    target: str = option("", help="folder of the images wanted, with the names of the inputs")
    sigma: float | None = option(
        None, minimum=0.0, maximum=255.0, unit="of 255",
        help="standard deviation of Gaussian noise, which makes inputs of the targets",
    )  # fmt: skip
    test: tuple[str, ...] = option((), help="names of the images held out; by default a share of them")
    test_share: float = option(0.2, minimum=0.0, maximum=1.0, help="share held out, by a hash of the name")
    val_share: float = option(0.1, minimum=0.0, maximum=0.9, help="share of the rest for validation")
    skip_bad: bool = option(False, help="leave out files that cannot be used, instead of refusing them")


@dataclass(frozen=True)
class _Pair:
    """Files of an input and a target, one file twice where the input is made of the target."""

    input: PictureFile
    target: PictureFile

    @property
    def name(self) -> str:
        return self.target.name


class Pairs(Dataset):
    """Input images and target images, paired by their names without suffix; a scene is a pair.

    Without input images, they are made of the targets: with noise (`sigma`), or smaller, by averages, for a network
    that enlarges.
    """

    id: ClassVar[str] = "pairs"
    summary: ClassVar[str] = (
        "your own pairs of images, for denoising, deblurring, super-resolution and the like"
    )
    Config: ClassVar[type] = PairsConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"image-to-image"})
    rectangular: ClassVar[bool] = True
    config: PairsConfig

    def __init__(self, config: PairsConfig | None = None) -> None:
        super().__init__(config)
        if self.config.input and self.config.sigma is not None:
            raise UsageError(
                "pairs: noise (sigma) is added to targets, so the folder of inputs is not needed.",
                hint="Leave out input or sigma.",
            )
        self._notes: list[str] = []
        self._pairs = self._found()
        by_name = {pair.name: pair for pair in self._pairs}
        names = split_names(
            list(by_name), self.id, test=self.config.test, test_share=self.config.test_share,
            val_share=self.config.val_share,
        )  # fmt: skip
        self._splits = {split: [by_name[name] for name in found] for split, found in names.items()}
        self._cache: ImageCache[Path] = ImageCache(_upright)

    def _found(self) -> list[_Pair]:
        skip_bad = self.config.skip_bad
        target_folder = folder_of(self.config.target, self.id, "target")
        targets = self._usable(target_folder)
        if not self.config.input:
            return [_Pair(file, file) for file in targets.values()]
        folder = folder_of(self.config.input, self.id, "input")
        inputs = self._usable(folder)
        alone = {file.name: str(file.path) for stem, file in inputs.items() if stem not in targets}
        alone |= {file.name: str(file.path) for stem, file in targets.items() if stem not in inputs}
        if len(alone) == len(inputs) + len(targets):
            raise InputError(
                f"No image in {folder} has the name of one in {target_folder}: {listed(sorted(alone.values()))}.",
                hint="Inputs and targets are paired by their names without suffix.",
            )
        refuse_or_skip(
            alone, "without a counterpart of the same name", self.id, self._notes, skip_bad=skip_bad
        )
        pairs = [_Pair(inputs[stem], targets[stem]) for stem in inputs if stem in targets]
        pairs = self._of_equal_size(pairs)
        refuse_equal_pairs([(pair.input.path, pair.target.path) for pair in pairs])
        return pairs

    def _usable(self, folder: Path) -> dict[str, PictureFile]:
        """Return the usable images of a folder by their names without suffix."""
        found = find_pictures(folder)
        if not found:
            raise InputError(f"The folder {folder} contains no images.", hint="Name another folder.")
        usable, faults = check_pictures(found, decode=self.config.skip_bad)
        refuse_or_skip(faults, "cannot be used", self.id, self._notes, skip_bad=self.config.skip_bad)
        by_stem: dict[str, PictureFile] = {}
        for file in usable:
            other = by_stem.setdefault(file.stem, file)
            if other is not file:
                raise InputError(
                    f"Two images are called '{file.stem}': {other.path} and {file.path}.",
                    hint="Rename one of them: images are paired by their names without suffix.",
                )
        return by_stem

    def _of_equal_size(self, pairs: list[_Pair]) -> list[_Pair]:
        """Return the pairs in which the target is as large as the input, or a whole number of times as large.

        The number is that of most pairs; the others are refused or left out.
        """
        scales: dict[_Pair, int] = {}
        faults: dict[str, str] = {}
        for pair in pairs:
            (width, height), (wide, high) = image_size(pair.input.path), image_size(pair.target.path)
            scale = wide // width
            if not scale or (wide, high) != (scale * width, scale * height):
                faults[pair.name] = f"{pair.name} ({width}x{height} in, {wide}x{high} wanted)"
                continue
            scales[pair] = scale
        found = list(scales.values())
        self._scale = max(set(found), key=found.count, default=1)
        for pair, scale in scales.items():
            if scale != self._scale:
                faults[pair.name] = f"{pair.name} ({scale} times as large, others {self._scale} times)"
        what = "whose input and target do not fit in size"
        refuse_or_skip(faults, what, self.id, self._notes, skip_bad=self.config.skip_bad)
        return [pair for pair in pairs if pair.name not in faults]

    # ------------------------------------------------------------------------------------------ contract

    def scenes(self, split: Split) -> Sequence[str]:
        return [pair.name for pair in self._splits[split]]

    def identity(self) -> str:
        return self._identity

    @cached_property
    def _identity(self) -> str:
        digest = hashlib.sha256()
        for split, pairs in self._splits.items():
            for pair in pairs:
                digest.update(f"{split}/{pair.name}/{pair.input.digest}/{pair.target.digest}\n".encode())
        made = "" if self.config.input else f"made;{self.config.sigma or 0:g}"
        return f"pairs/{_VERSION}({len(self._pairs)};{digest.hexdigest()};{made})"

    def notes(self) -> Sequence[str]:
        return tuple(self._notes)

    def files(self) -> Sequence[SampleFiles]:
        return [
            SampleFiles(pair.name, split, tuple(dict.fromkeys((pair.input.path, pair.target.path))))
            for split, pairs in self._splits.items()
            for pair in pairs
        ]

    def check(self, architecture: Architecture) -> None:
        takes, gives = architecture.input, architecture.output
        if takes.kind not in ("gray", "rgb") or gives.kind not in ("gray", "rgb"):
            raise UsageError(
                f"pairs provides images for images; {architecture.id} maps {takes.kind} to {gives.kind}.",
                hint="List the datasets:  zoo list datasets",
            )
        if self.config.input and self._scale != gives.scale:
            raise UsageError(
                f"Targets are {self._scale} times as large as the inputs; {architecture.id} outputs images "
                f"{gives.scale} times as large.",
                hint="Name folders whose sizes fit:  --data 'pairs(input=DIR,target=DIR)'",
            )
        if not self.config.input and gives.scale == 1 and not self.config.sigma:
            raise UsageError(
                f"pairs has only targets, and {architecture.id} does not enlarge images.",
                hint="Name the inputs, or noise:  --data 'pairs(target=DIR,sigma=25)'",
            )

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        self.check(architecture)
        multiple, scale = architecture.input.multiple_of, architecture.output.scale
        for number, pair, rng in drawn(for_training(self._splits["train"], self.id), seed, start):
            window = random_window(self._stored(pair, scale), size, scale, multiple, number, rng)
            yield self._finished(window, pair, architecture, rng)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        self.check(architecture)
        for pair in self._splits[split]:
            rng = np.random.default_rng((seed, *pair.name.encode()))
            stored = self._stored(pair, architecture.output.scale)
            yield self._finished(stored, pair, architecture, rng)

    # ------------------------------------------------------------------------------------------- details

    def _stored(self, pair: _Pair, scale: int) -> Sample:
        """Return a pair in the numbers that its files hold; an input that is made of the target only has its size."""
        target = _channels_first(self._cache.get(pair.target.path))
        if self.config.input:
            inputs = _channels_first(self._cache.get(pair.input.path))
        else:
            height, width = (side - side % scale for side in target.shape[1:])
            target = target[:, :height, :width]
            inputs = target[:, ::scale, ::scale]
        return Sample(pair.name, pair.name, inputs, target)

    def _finished(
        self, stored: Sample, pair: _Pair, architecture: Architecture, rng: np.random.Generator
    ) -> Sample:
        """Return a pair, or a window of one, as a network takes it."""
        takes, gives = architecture.input, architecture.output
        wanted = InputSpec("gray" if gives.kind == "gray" else "rgb", gives.channels)
        pixels = _channels_last(stored.target)
        target = as_input(pixels, wanted, pair.target.path)
        if self.config.input:
            inputs = as_input(_channels_last(stored.inputs), takes, pair.input.path)
        else:
            inputs = _reduced(as_input(pixels, takes, pair.target.path), gives.scale)
        if self.config.sigma:
            noise = rng.standard_normal(inputs.shape, dtype=np.float32)
            inputs = np.clip(inputs + noise * np.float32(self.config.sigma / 255), 0, 1)
        return Sample(stored.name, stored.scene, inputs, target)


def _upright(path: Path) -> npt.NDArray[Any]:
    return read_pixels(path, upright=True)


def _channels_first(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _channels_last(pixels: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    assert pixels is not None
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def _reduced(image: FloatArray, scale: int) -> FloatArray:
    """Return (C, H, W) reduced by averages over squares."""
    if scale == 1:
        return image
    channels, height, width = image.shape
    squares = image.reshape(channels, height // scale, scale, width // scale, scale)
    return np.ascontiguousarray(squares.mean(axis=(2, 4), dtype=np.float32))
