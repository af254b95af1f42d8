"""`masks`: images with the masks that a segmentation network should produce for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from zoo.contracts import Architecture, CropSize, Dataset, Sample, SampleFiles, Split
from zoo.data.mask_labels import MaskLabels
from zoo.data.pages import Page, pages_of, read_page
from zoo.data.picture_files import PictureFile, check_pictures, refuse_or_skip
from zoo.data.picture_folders import ImageCache
from zoo.data.random_crops import drawn, for_training, random_window
from zoo.data.splits import split_names
from zoo.errors import InputError, UsageError
from zoo.images.pixels import as_input, image_size
from zoo.options import option
from zoo.storage.atomic import open_linked

_VERSION = 2
_IMAGE_FOLDERS = ("images", "image", "imgs", "img")
_LABEL_FOLDERS = ("labels", "label", "masks", "mask")
#: what may stand at the end of a label's name where the picture's has nothing
_LABEL_ENDS = ("_mask", "_label", "_labels", "_gt")


@dataclass(frozen=True)
class MasksConfig:
    """Options of `masks`."""

    root: str = option("", help="folder that holds a folder images/ and a folder labels/ (or masks/)")
    images: str = option("", help="folder of images, or one TIFF stack, instead of root")
    labels: str = option("", help="folder of label images, or one TIFF stack, instead of root")
    test: tuple[str, ...] = option((), help="names of the images held out; by default a share of them")
    test_share: float = option(
        0.2, minimum=0.0, maximum=0.9, help="share held out if no names are given, by a hash of the name"
    )
    val_share: float = option(0.0, minimum=0.0, maximum=0.9, help="share of the rest for validation")
    classes: tuple[int, ...] = option(
        (),
        minimum=0,
        help="label value of each class or channel; by default, values above half of the largest, or the classes",
    )
    invert: bool = option(False, help="whether dark is foreground and bright background, without classes")
    skip_bad: bool = option(False, help="leave out files that cannot be used, instead of refusing them")


@dataclass(frozen=True)
class _Pair:
    name: str
    image: Page
    label: Page

    @property
    def pages(self) -> tuple[Page, Page]:
        return self.image, self.label


class Masks(Dataset):
    """Pictures and label pictures of the same size, as files of the same name or as two TIFF stacks.

    A scene is a picture, or a page of a stack, which is called ``stack-007``.
    """

    id: ClassVar[str] = "masks"
    summary: ClassVar[str] = "your own images and label images, as folders or TIFF stacks"
    Config: ClassVar[type] = MasksConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"segmentation"})
    rectangular: ClassVar[bool] = True
    config: MasksConfig

    def __init__(self, config: MasksConfig | None = None) -> None:
        super().__init__(config)
        self._notes: list[str] = []
        images, labels = _sources(self.config)
        faults: dict[str, str] = {}
        pages = pages_of(images, faults=faults), pages_of(labels, indices=True, faults=faults)
        found = _paired(*pages, images, labels, self._skip)
        self._pairs = self._usable(found, faults)
        self._splits = self._split()
        self._labels = MaskLabels(
            {pair.name: pair.label for pair in self._pairs}, self.config.classes, invert=self.config.invert
        )
        self._cache: ImageCache[Page] = ImageCache(read_page)

    def _skip(self, faults: dict[str, str], what: str) -> None:
        refuse_or_skip(faults, what, self.id, self._notes, skip_bad=self.config.skip_bad)

    def _usable(self, pairs: list[_Pair], faults: dict[str, str]) -> list[_Pair]:
        """The pairs whose files can be read and have one size; of stacks, pages are looked at when they are read."""
        for side, labels in ((0, False), (1, True)):
            files = {
                each.pages[side].path: PictureFile(str(each.pages[side].path), each.pages[side].path)
                for each in pairs
            }
            faults |= check_pictures(files.values(), decode=self.config.skip_bad, labels=labels)[1]
        self._skip(faults, "cannot be used")
        left = [pair for pair in pairs if not any(str(page.path) in faults for page in pair.pages)]
        unequal: dict[str, str] = {}
        for pair in left:
            if not (pair.image.index or pair.label.index or pair.image.path == pair.label.path):
                (width, height), (wide, high) = (image_size(page.path) for page in pair.pages)
                if (width, height) != (wide, high):
                    unequal[pair.name] = (
                        f"{pair.image} has {width}x{height} pixels, its label {pair.label} {wide}x{high}"
                    )
        self._skip(unequal, "with a label of another size")
        left = [pair for pair in left if pair.name not in unequal]
        if not left:
            raise InputError("masks: no pair of an image and a label can be used.", hint="Repair the files.")
        return left

    def notes(self) -> Sequence[str]:
        return self._notes

    def _split(self) -> dict[Split, list[_Pair]]:
        by_name = {pair.name: pair for pair in self._pairs}
        names = split_names(
            list(by_name), self.id, test=self.config.test, test_share=self.config.test_share,
            val_share=self.config.val_share,
        )  # fmt: skip
        return {split: [by_name[name] for name in found] for split, found in names.items()}

    def files(self) -> Sequence[SampleFiles]:
        # `zoo data` decodes whole files: pages of a stack are none.
        if any(
            page.index or pair.image.path == pair.label.path for pair in self._pairs for page in pair.pages
        ):
            return ()
        self._labels.refuse_one_value()
        return [
            SampleFiles(
                pair.name, split, (pair.image.path, pair.label.path), self._labels.shown(pair.name)
            )
            for split, pairs in self._splits.items() for pair in pairs
        ]  # fmt: skip

    def scenes(self, split: Split) -> Sequence[str]:
        return [pair.name for pair in self._splits[split]]

    def identity(self) -> str:
        return self._identity

    @cached_property
    def _identity(self) -> str:
        """A digest of what the files hold, of what is held out, and of how labels are read."""
        digest = hashlib.sha256()
        files = {page.path for pair in self._pairs for page in (pair.image, pair.label)}
        contents = {path: _digest(path) for path in files}
        for split, pairs in self._splits.items():
            for pair in pairs:
                for page in (pair.image, pair.label):
                    digest.update(f"{split}/{pair.name}/{page.index}/{contents[page.path]}\n".encode())
        how = f"{self.config.classes}{self.config.invert}"
        return f"masks/{_VERSION}({len(self._pairs)};{digest.hexdigest()};{how})"

    def check(self, architecture: Architecture) -> None:
        self._check_kinds(architecture)
        self._labels.check(architecture, self.scenes("train"), self.config.test)
        splits: tuple[Split, ...] = ("train", "test")
        for split in splits:
            next(self.frames(architecture, split), None)

    def _check_kinds(self, architecture: Architecture) -> None:
        output = architecture.output
        if (
            architecture.input.kind not in ("gray", "rgb")
            or output.kind not in ("mask", "classes")
            or output.scale != 1
        ):
            raise UsageError(
                f"masks provides images and masks of the same size; {architecture.id} maps "
                f"{architecture.input.kind} to {output.kind}, {output.scale} times as large.",
                hint="List the datasets:  zoo list datasets",
            )

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        self._check_kinds(architecture)
        for number, pair, rng in drawn(for_training(self._splits["train"], self.id), seed, start):
            sample = self._sample(pair, architecture)
            yield random_window(sample, size, 1, architecture.input.multiple_of, number, rng)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        self._check_kinds(architecture)
        for pair in self._splits[split]:
            yield self._sample(pair, architecture)

    def _sample(self, pair: _Pair, architecture: Architecture) -> Sample:
        image, label = self._cache.get(pair.image), self._cache.get(pair.label)
        if image.shape[:2] != label.shape[:2]:
            raise InputError(
                f"{pair.image} has {image.shape[1]}x{image.shape[0]} pixels, its label {pair.label} "
                f"{label.shape[1]}x{label.shape[0]}."
            )
        inputs = as_input(image, architecture.input, pair.image)
        return Sample(
            pair.name, pair.name, inputs, self._labels.target(label, pair.label, architecture.output)
        )


def _sources(config: MasksConfig) -> tuple[Path, Path]:
    """Return the folder or stack of the pictures, and that of the labels."""
    if config.images and config.labels and not config.root:
        return Path(config.images).expanduser(), Path(config.labels).expanduser()
    if not config.root or config.images or config.labels:
        raise UsageError(
            "masks needs the folders of the images and their labels: either root, or images and labels.",
            hint="Say where:  --data 'masks(root=DIR)'  or  --data 'masks(images=DIR,labels=DIR)'",
        )
    root = Path(config.root).expanduser()
    found = [
        next((root / name for name in names if (root / name).is_dir()), None)
        for names in (_IMAGE_FOLDERS, _LABEL_FOLDERS)
    ]
    if found[0] is None or found[1] is None:
        raise InputError(
            f"{root} does not contain a folder of images ({', '.join(_IMAGE_FOLDERS)}) and one of labels "
            f"({', '.join(_LABEL_FOLDERS)}).",
            hint="Name them:  --data 'masks(images=DIR,labels=DIR)'",
        )
    return found[0], found[1]


def _paired(
    images: dict[str, Page],
    labels: dict[str, Page],
    at: Path,
    labels_at: Path,
    skip: Callable[[dict[str, str], str], None],
) -> list[_Pair]:
    """Pictures and labels by name; two stacks page by page. `skip` is told of what stays alone, and may refuse it."""
    if at.is_file() and labels_at.is_file():
        if len(images) != len(labels):
            raise InputError(f"{at} has {len(images)} pages, {labels_at} has {len(labels)}.")
        return [_Pair(name, images[name], label) for name, label in zip(images, labels.values(), strict=True)]
    plain = {_without_end(name, images): label for name, label in labels.items()}
    alone = [page for name, page in images.items() if name not in plain]
    alone += [page for name, page in plain.items() if name not in images]
    if len(alone) == len(images) + len(plain):
        raise InputError(
            f"No image in {at} has a counterpart in {labels_at}: images and labels are paired by name.",
            hint="Use the same names in both.",
        )
    skip({str(page): str(page) for page in alone}, "without a counterpart of the same name")
    return [_Pair(name, page, plain[name]) for name, page in images.items() if name in plain]


def _without_end(name: str, images: dict[str, Page]) -> str:
    ends = (end for end in _LABEL_ENDS if name not in images and name.endswith(end))
    return name.removesuffix(next(ends, ""))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open_linked(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
