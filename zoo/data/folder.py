"""`folder`: pictures with a class each, in folders of classes or with a table of labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, SampleFiles, Split, sides_of
from zoo.contracts.architecture import Interpolation
from zoo.data.label_checks import refuse_single_class, refuse_untrained
from zoo.data.labelled_pictures import SPLITS, LabelledPicture, pictures_of_folders, pictures_of_table
from zoo.data.picture_files import counted, folder_of, listed
from zoo.data.picture_folders import ImageCache
from zoo.data.random_crops import drawn, for_training, shuffled
from zoo.data.splits import interleaved
from zoo.errors import InputError, UsageError
from zoo.images.pixels import as_input, read_rgb8
from zoo.images.resizing import THUMBNAIL, crop_pct_of, random_part, resize_middle, shifted
from zoo.options import option
from zoo.storage.atomic import read_text
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    from zoo.images.resizing import Pixels

_VERSION = 1


@dataclass(frozen=True)
class FolderConfig:
    """Options of `folder`."""

    root: str = option("", help="folder with a folder per class, or with train, val and test that hold them")
    labels: str = option("", help="CSV file with a row per image (file,label), instead of folders of classes")
    classes: tuple[str, ...] = option(
        (), help="class names in the order of the network's outputs, or a text file with one per line"
    )
    test_share: float = option(
        0.2, minimum=0.0, maximum=1.0, help="share of each class held out, unless folders or the table say"
    )
    val_share: float = option(0.1, minimum=0.0, maximum=0.9, help="share of the rest for validation")
    crop_pct: float | None = option(
        None, minimum=0.05, maximum=1.0,
        help="side of the middle that is evaluated, as a share of the resized image; none: as the network states",
    )  # fmt: skip
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] | None = option(
        None, help="how images are resized; none: as the network states"
    )
    augment: Literal["auto", "part", "shift", "none"] = option(
        "auto", help="training crops: random parts, small shifts, or the middle; by the size of the input"
    )
    least_part: float = option(
        0.35, minimum=0.01, maximum=1.0, help="share of the area that a random part covers at least"
    )
    flip: bool = option(True, help="mirror half of the training crops; not for digits, letters or signs")
    skip_bad: bool = option(False, help="leave out files that cannot be used, instead of refusing them")


class Folder(Dataset):
    """Pictures of any size with one class each. A scene is a file, named by its path below the folder.

    Classes are numbered in the order of their names, as torchvision does, unless they are numbers already or the
    option `classes` states their order.
    """

    id: ClassVar[str] = "folder"
    summary: ClassVar[str] = "your own labelled images, in a folder per class or with a CSV file"
    Config: ClassVar[type] = FolderConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    rectangular: ClassVar[bool] = True
    config: FolderConfig

    def __init__(self, config: FolderConfig | None = None) -> None:
        super().__init__(config)
        self._notes: list[str] = []
        self._pictures = self._found()
        self._splits = {split: self._of(split) for split in SPLITS}
        self._classes = self._named_classes()
        self._check_classes()
        self._cache: ImageCache[Path] = ImageCache(read_rgb8)

    def _found(self) -> list[LabelledPicture]:
        config = self.config
        if config.labels:
            table = Path(config.labels).expanduser()
            root = folder_of(config.root or str(table.parent), self.id, "root")
            if not table.is_absolute() and not table.is_file():
                table = root / config.labels
            return pictures_of_table(
                root, table, test_share=config.test_share, val_share=config.val_share,
                skip_bad=config.skip_bad, notes=self._notes,
            )  # fmt: skip
        root = folder_of(config.root, self.id, "root")
        return pictures_of_folders(
            root, test_share=config.test_share, val_share=config.val_share,
            skip_bad=config.skip_bad, notes=self._notes,
        )  # fmt: skip

    def _of(self, split: Split) -> list[LabelledPicture]:
        """Return the pictures of a split, the classes mixed: of a part, too, figures should tell about the whole."""
        found = {each.file.name: each for each in self._pictures if each.split == split}
        return [found[name] for name in interleaved({name: each.label for name, each in found.items()})]

    def _named_classes(self) -> tuple[str, ...]:
        """Return the class names that the option states, in order; none if it does not."""
        given = self.config.classes
        if len(given) != 1:
            return given
        path = Path(given[0]).expanduser()
        try:
            names = [line.strip() for line in read_text(path).splitlines()]
        except InputError as error:
            raise InputError(f"The file of class names {path} cannot be read: {error.message}") from error
        return tuple(name for name in names if name)

    def _check_classes(self) -> None:
        """Refuse a single class, one that only the test images have, and names that are not among the stated ones."""
        labels = [each.label for each in self._pictures]
        look = f"zoo data 'folder(root={self.config.root or 'DIR'})'"
        if not labels:
            raise InputError("There are no images.", hint=f"Look at the folder:  {look}")
        hint = f"Is root one folder too high or too deep? Look at it:  {look}"
        refuse_single_class(labels, "image", hint=hint)
        twice = [name for name, times in Counter(self._classes).items() if times > 1]
        if twice:
            raise UsageError(f"folder: the option classes names {listed(twice)} twice.")
        strange = sorted(set(labels) - set(self._classes)) if self._classes else []
        if strange:
            raise UsageError(
                f"folder: {counted(len(strange), 'label')} not among the {len(self._classes)} stated classes: "
                f"{listed(strange)}{did_you_mean(strange[0], self._classes) or '.'}",
                hint="State all names in the order of the network's outputs with classes=FILE.",
            )
        trained = {each.label for each in self._splits["train"]}
        tested = {each.label for each in self._splits["test"] if each.stated}
        refuse_untrained(trained, tested, hint=f"Check the names of the folders:  {look}")

    # ------------------------------------------------------------------------------------------ contract

    def scenes(self, split: Split) -> Sequence[str]:
        return [each.file.name for each in self._splits[split]]

    def identity(self) -> str:
        return self._identity

    @cached_property
    def _identity(self) -> str:
        config, digest = self.config, hashlib.sha256()
        for each in self._pictures:
            digest.update(f"{each.split}/{each.file.name}/{each.label}/{each.file.digest}\n".encode())
        how = f"{','.join(self._classes)};{config.crop_pct};{config.interpolation};{config.augment}"
        how += f";{config.least_part:g};{config.flip}"
        return f"folder/{_VERSION}({len(self._pictures)};{digest.hexdigest()};{how})"

    def notes(self) -> Sequence[str]:
        return tuple(self._notes)

    def check(self, architecture: Architecture) -> None:
        self.indices(architecture)

    def files(self) -> Sequence[SampleFiles]:
        return [SampleFiles(e.file.name, e.split, (e.file.path,), (e.label,)) for e in self._pictures]

    def class_names(self) -> Sequence[str]:
        if self._classes:
            return self._classes
        labels = {each.label for each in self._pictures}
        return () if all(map(_is_number, labels)) else sorted(labels)

    def indices(self, architecture: Architecture) -> dict[str, int]:
        """Return the output of a network that each label stands for.

        Raises:
            UsageError: The labels do not fit the network.
        """
        takes, outputs = architecture.input, architecture.output.classes
        if takes.kind not in ("rgb", "gray") or architecture.output.kind != "logits":
            raise UsageError(
                f"folder provides images with a class each; {architecture.id} maps {takes.kind} to "
                f"{architecture.output.kind}.",
                hint="List the datasets:  zoo list datasets",
            )
        names = self.class_names()
        if names:
            if len(names) != outputs:
                raise UsageError(
                    f"folder has {len(names)} classes ({listed(names)}); {architecture.id} has {outputs} outputs.",
                    hint="State the name of every output, in order, with classes=FILE (one name per line), "
                    "or name the folders by their numbers.",
                )
            return {name: index for index, name in enumerate(names)}
        found = {each.label: int(each.label) for each in self._pictures}
        wrong = {label for label, index in found.items() if not 0 <= index < outputs}
        if wrong:
            culprit = next(each for each in self._pictures if each.label in wrong)
            raise UsageError(
                f"{architecture.id} has outputs 0 to {outputs - 1}, but {culprit.file.name} has the label "
                f"{culprit.label} ({counted(len(wrong), 'label')} out of range).",
                hint="Labels count from 0. Look at them:  zoo data 'folder(...)'",
            )
        return found

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        pictures, labels = for_training(self._splits["train"], self.id), self.indices(architecture)
        for number, picture, rng in drawn(pictures, seed, start):
            cut = self._cut(self._pixels(picture), sides_of(size), architecture, rng)
            yield _sample(f"{picture.file.name}#{number}", picture, cut, architecture, labels)

    def calibration(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        pictures, labels = for_training(self._splits["train"], self.id), self.indices(architecture)
        for number, position in enumerate(shuffled(len(pictures), seed, start), start):
            picture = pictures[position]
            cut = self._middle(self._pixels(picture), architecture.input.example, architecture)
            yield _sample(f"{picture.file.name}#{number}", picture, cut, architecture, labels)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        labels = self.indices(architecture)
        for picture in self._splits[split]:
            cut = self._middle(self._pixels(picture), architecture.input.example, architecture)
            yield _sample(picture.file.name, picture, cut, architecture, labels)

    # ------------------------------------------------------------------------------------------- details

    def _pixels(self, picture: LabelledPicture) -> Pixels:
        return self._cache.get(picture.file.path)

    def _interpolation(self, architecture: Architecture) -> Interpolation | None:
        return self.config.interpolation or architecture.input.interpolation

    def _middle(self, pixels: Pixels, size: tuple[int, int], architecture: Architecture) -> Pixels:
        share = crop_pct_of(self.config.crop_pct or architecture.input.crop_pct, size)
        return resize_middle(pixels, size, share, self._interpolation(architecture))

    def _cut(
        self, pixels: Pixels, size: tuple[int, int], architecture: Architecture, rng: np.random.Generator
    ) -> Pixels:
        how = self.config.augment
        if how == "auto":
            how = "shift" if max(size) <= THUMBNAIL else "part"
        if how == "part":
            cut = random_part(pixels, size, rng, self.config.least_part, self._interpolation(architecture))
        elif how == "shift":
            cut = shifted(pixels, size, rng, self._interpolation(architecture))
        else:
            return self._middle(pixels, size, architecture)
        return cut[:, ::-1] if self.config.flip and rng.random() < 0.5 else cut


def _sample(
    name: str, picture: LabelledPicture, pixels: Pixels, architecture: Architecture, labels: dict[str, int]
) -> Sample:
    inputs = as_input(pixels, architecture.input, picture.file.path)
    target: Any = np.array(labels[picture.label], dtype=np.int64)
    return Sample(name, picture.file.name, inputs, target)


def _is_number(label: str) -> bool:
    return label.isascii() and label.removeprefix("-").isdecimal()
