"""`coco`: images with boxes around the objects in them, in the files of COCO or of YOLO."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, SampleFiles, Split, sides_of
from zoo.data.box_labels import CocoFile, find_by_name, outside, read_coco, read_yolo
from zoo.data.label_checks import refuse_untrained
from zoo.data.labelled_pictures import SPLIT_NAMES
from zoo.data.letterbox import letterbox
from zoo.data.picture_files import (
    PictureFile,
    check_pictures,
    find_pictures,
    folder_of,
    listed,
    refuse_or_skip,
)
from zoo.data.picture_folders import ImageCache
from zoo.data.random_crops import for_training, shuffled
from zoo.data.splits import split_names
from zoo.data.yolo_files import class_names, text_file, texts_beside
from zoo.errors import InputError, UsageError
from zoo.images.pixels import as_input, image_size, read_rgb8
from zoo.options import option

if TYPE_CHECKING:
    from zoo.contracts import FloatArray

_VERSION = 1


@dataclass(frozen=True)
class CocoConfig:
    """Options of `coco`."""

    root: str = option("", help="folder of the images, and of the JSON files or text files")
    annotations: tuple[str, ...] = option((), help="JSON files; by default those below root")
    classes: tuple[str, ...] = option((), help="class names in the order of the network's outputs")
    ids: bool = option(
        False, help="the network numbers classes by the ids of COCO, with gaps, not by their order"
    )
    fit: Literal["letterbox", "stretch"] = option(
        "letterbox", help="how images are fitted to the input: with gray edges, or stretched"
    )
    flip: bool = option(True, help="mirror half of the training images")
    test_share: float = option(
        0.2, minimum=0.0, maximum=1.0, help="share held out, unless files or folders say"
    )
    val_share: float = option(0.1, minimum=0.0, maximum=0.9, help="share of the rest for validation")
    skip_bad: bool = option(False, help="leave out files that cannot be used, instead of refusing them")


@dataclass(frozen=True)
class _Boxed:
    """An image, and its boxes as in the files; `split` is "" if they do not say."""

    file: PictureFile
    boxes: FloatArray
    split: Split | Literal[""]


class Coco(Dataset):
    """Images with boxes. A scene is an image, named by its path below the folder.

    With JSON files below the folder, those are read; without, the text files of YOLO: ``labels/a.txt`` for
    ``images/a.jpg``, or next to the image.
    """

    id: ClassVar[str] = "coco"
    summary: ClassVar[str] = "your own images with boxes, as COCO's JSON files or YOLO's text files have them"
    Config: ClassVar[type] = CocoConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"detection"})
    rectangular: ClassVar[bool] = True
    config: CocoConfig

    def __init__(self, config: CocoConfig | None = None) -> None:
        super().__init__(config)
        self._notes: list[str] = []
        self._root = folder_of(self.config.root, self.id, "root")
        self._names: dict[int, str] = {}
        files = find_pictures(self._root)
        if not files:
            raise InputError(f"The folder {self._root} contains no images.", hint="Name another folder.")
        usable, faults = check_pictures(files, decode=self.config.skip_bad)
        refuse_or_skip(faults, "cannot be used", self.id, self._notes, skip_bad=self.config.skip_bad)
        tables = self._tables()
        found = self._of_coco(tables, usable) if tables else self._of_yolo(usable)
        if not any(len(each.boxes) for each in found):
            raise InputError(
                f"No image in {self._root} has a box.",
                hint="JSON files, or a text file for each image, are expected below root.",
            )
        self._splits = self._split(found)
        self._refuse_untrained(found)
        self._cache: ImageCache[Path] = ImageCache(read_rgb8)

    # -------------------------------------------------------------------------------------------- files

    def _tables(self) -> list[CocoFile]:
        stated = [Path(each).expanduser() for each in self.config.annotations]
        paths = [path if path.is_file() else self._root / path for path in stated]
        paths = paths or sorted(path for path in self._root.rglob("*.json") if not path.name.startswith("."))
        tables = []
        for path in paths:
            try:
                tables.append(read_coco(path))
            except InputError:
                # Captions and key points are in files of the same folder, without boxes.
                if stated or "instances" in path.name or len(paths) == 1:
                    raise
        return tables

    def _of_coco(self, tables: Sequence[CocoFile], files: Sequence[PictureFile]) -> list[_Boxed]:
        found: dict[str, _Boxed] = {}
        missing: dict[str, str] = {}
        beyond: dict[str, str] = {}
        resized: dict[str, str] = {}
        for table in tables:
            for number, name in table.categories.items():
                if self._names.setdefault(number, name) != name:
                    raise InputError(
                        f"{table.path} calls category {number} '{name}', another file '{self._names[number]}'.",
                        hint="Name the right files:  coco(root=DIR,annotations=[FILE,...])",
                    )
            inside = table.path.is_relative_to(self._root)
            near = table.path.relative_to(self._root) if inside else Path(table.path.name)
            split = _split_in(near)
            by_name = find_by_name(list(table.boxes), files, near.as_posix())
            for name, boxes in table.boxes.items():
                file = by_name.get(name)
                if file is None:
                    missing[name] = f"{name} ({table.path.name})"
                    continue
                if file.name in found:
                    raise InputError(
                        f"{file.path} is in two annotation files, {table.path} being one of them.",
                        hint="Name the right ones:  coco(root=DIR,annotations=[FILE,...])",
                    )
                found[file.name] = _Boxed(file, boxes, split)
                size = image_size(file.path)
                stated = table.sizes.get(name, size)
                box = outside(boxes, size)
                if stated != size:
                    resized[file.name] = (
                        f"{file.name} ({size[0]}x{size[1]} pixels, {stated[0]}x{stated[1]} in {table.path.name})"
                    )
                elif box:
                    beyond[file.name] = f"{file.name} ({size[0]}x{size[1]} pixels, box {box})"
        skip_bad = self.config.skip_bad
        refuse_or_skip(missing, f"with boxes not in {self._root}", self.id, self._notes, skip_bad=skip_bad)
        alone = {file.name: file.name for file in files if file.name not in found}
        refuse_or_skip(alone, "not listed in the annotations", self.id, self._notes, skip_bad=skip_bad)
        what = "of another size than the annotations state, so that their boxes are elsewhere"
        refuse_or_skip(resized, what, self.id, self._notes, skip_bad=skip_bad)
        what = "with boxes outside the image"
        refuse_or_skip(beyond, what, self.id, self._notes, skip_bad=skip_bad)
        return [found[name] for name in sorted(found) if name not in beyond | resized]

    def _of_yolo(self, files: Sequence[PictureFile]) -> list[_Boxed]:
        found: list[_Boxed] = []
        alone: dict[str, str] = {}
        wrong: dict[str, str] = {}
        texts: set[Path] = set()
        for file in files:
            path = text_file(self._root, file)
            if path is None:
                alone[file.name] = file.name
                continue
            texts.add(path)
            try:
                boxes = read_yolo(path, image_size(file.path))
            except InputError as error:
                wrong[file.name] = error.message
                continue
            found.append(_Boxed(file, boxes, _split_in(PurePosixPath(file.name))))
        if len(alone) == len(files):
            raise InputError(
                f"{self._root} has neither a JSON file of boxes nor a text file for any image.",
                hint="Expected: annotations/*.json, or labels/NAME.txt for images/NAME.jpg.",
            )
        skip_bad = self.config.skip_bad
        what = "without a text file of boxes (an empty one says that there are none)"
        refuse_or_skip(alone, what, self.id, self._notes, skip_bad=skip_bad)
        widows = {str(path): str(path) for path in texts_beside(texts) if path not in texts}
        refuse_or_skip(widows, "of boxes without an image", self.id, self._notes, skip_bad=skip_bad)
        self._names = dict(enumerate(class_names(self._root)))
        for each in found if self._names else ():
            highest = int(each.boxes[:, 4].max(initial=-1))
            if highest >= len(self._names):
                wrong[each.file.name] = f"{each.file.name} has a box of class {highest}"
        what = (
            f"whose boxes cannot be used (classes are 0 to {len(self._names) - 1})"
            if self._names
            else "whose boxes cannot be used"
        )
        refuse_or_skip(wrong, what, self.id, self._notes, skip_bad=skip_bad)
        found = [each for each in found if each.file.name not in wrong]
        most = max((int(each.boxes[:, 4].max(initial=-1)) for each in found), default=-1)
        self._names = self._names or {number: str(number) for number in range(most + 1)}
        return found

    def _refuse_untrained(self, found: Sequence[_Boxed]) -> None:
        """Refuse classes that only images for testing have, where files or folders say which those are."""
        if any(each.split == "train" for each in found):
            trained, tested = (
                {self._names[int(label)] for each in self._splits[split] for label in each.boxes[:, 4]}
                for split in ("train", "test")
            )
            refuse_untrained(trained, tested, hint=f"Look at them:  zoo data 'coco(root={self.config.root})'")

    def _split(self, found: Sequence[_Boxed]) -> dict[Split, list[_Boxed]]:
        stated: dict[str, Split] = {each.file.name: each.split for each in found if each.split}
        if "train" in stated.values():
            if "test" not in stated.values():
                stated = {name: "test" if split == "val" else split for name, split in stated.items()}
            lost = [each.file.name for each in found if each.file.name not in stated]
            if lost:
                raise InputError(
                    f"{listed(lost)} of {self._root} belong to no split.", hint="Move them to train/."
                )
            left = [name for name, split in stated.items() if split == "train"]
            if "val" not in stated.values():
                drawn = split_names(left, self.id, test=(), test_share=0, val_share=self.config.val_share)
                stated |= dict.fromkeys(drawn["val"], "val")
        else:
            names = [each.file.name for each in found]
            drawn = split_names(
                names, self.id, test=(), test_share=self.config.test_share, val_share=self.config.val_share
            )
            stated = {name: split for split, members in drawn.items() for name in members}
        splits: dict[Split, list[_Boxed]] = {"train": [], "val": [], "test": []}
        for each in found:
            splits[stated[each.file.name]].append(each)
        return splits

    # ------------------------------------------------------------------------------------------ contract

    def scenes(self, split: Split) -> Sequence[str]:
        return [each.file.name for each in self._splits[split]]

    def identity(self) -> str:
        return self._identity

    @cached_property
    def _identity(self) -> str:
        digest = hashlib.sha256()
        for split, members in self._splits.items():
            for each in members:
                digest.update(f"{split}/{each.file.name}/{each.file.digest}".encode() + each.boxes.tobytes())
        config = self.config
        how = f"{','.join(self.class_names())};{config.ids};{config.fit};{config.flip}"
        return f"coco/{_VERSION}({sum(map(len, self._splits.values()))};{digest.hexdigest()};{how})"

    def notes(self) -> Sequence[str]:
        return tuple(self._notes)

    def files(self) -> Sequence[SampleFiles]:
        return [
            SampleFiles(
                each.file.name, split, (each.file.path,),
                tuple(self._names[int(number)] for number in dict.fromkeys(each.boxes[:, 4].tolist())),
            )
            for split, members in self._splits.items() for each in members
        ]  # fmt: skip

    def class_names(self) -> Sequence[str]:
        if self.config.classes:
            return self.config.classes
        if self.config.ids:
            return [self._names.get(number, str(number)) for number in range(max(self._names) + 1)]
        return [self._names[number] for number in sorted(self._names)]

    def check(self, architecture: Architecture) -> None:
        self._classes(architecture)

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        for number, each in self._training(seed, start):
            flip = self.config.flip and np.random.default_rng((seed, 2, number)).random() < 0.5
            yield self._sample(
                f"{each.file.name}#{number}", each, sides_of(size), architecture, flip=bool(flip)
            )

    def calibration(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        for number, each in self._training(seed, start):
            yield self._sample(f"{each.file.name}#{number}", each, architecture.input.example, architecture)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        for each in self._splits[split]:
            yield self._sample(each.file.name, each, architecture.input.example, architecture)

    # ------------------------------------------------------------------------------------------- details

    def _training(self, seed: int, start: int) -> Iterator[tuple[int, _Boxed]]:
        members = for_training(self._splits["train"], self.id)
        for number, position in enumerate(shuffled(len(members), seed, start), start):
            yield number, members[position]

    def _classes(self, architecture: Architecture) -> Mapping[int, int]:
        """Return the class of a network that each category stands for."""
        takes, gives = architecture.input, architecture.output
        if takes.kind not in ("rgb", "gray") or gives.kind != "boxes":
            raise UsageError(
                f"coco provides images with boxes; {architecture.id} maps {takes.kind} to {gives.kind}.",
                hint="List the datasets:  zoo list datasets",
            )
        names = list(self.class_names())
        strange = sorted(set(self._names.values()) - set(names))
        if strange:
            raise UsageError(
                f"coco: classes that are not among the {len(names)} stated ones: {listed(strange)}.",
                hint="State all of them in the order of the network's outputs with classes=[...]",
            )
        if self.config.ids:
            found = {number: number for number in self._names}
        else:
            found = {number: names.index(name) for number, name in self._names.items()}
        if max(found.values()) >= gives.channels or (not self.config.ids and len(names) != gives.channels):
            raise UsageError(
                f"coco has {len(names)} classes ({listed(names)}); {architecture.id} has {gives.channels}.",
                hint="State their names in the order of the network's outputs with classes=[...], or ids=true where "
                "the network numbers them by the ids of COCO.",
            )
        return found

    def _sample(
        self,
        name: str,
        each: _Boxed,
        size: tuple[int, int],
        architecture: Architecture,
        *,
        flip: bool = False,
    ) -> Sample:
        classes = self._classes(architecture)
        pixels, boxes = letterbox(
            self._cache.get(each.file.path), each.boxes, size, stretch=self.config.fit == "stretch"
        )
        boxes[:, 4] = [classes[int(number)] for number in boxes[:, 4]]
        if flip:
            pixels = pixels[:, ::-1]
            boxes[:, [0, 2]] = size[1] - boxes[:, [2, 0]]
        return Sample(name, each.file.name, as_input(pixels, architecture.input, each.file.path), boxes)


def _split_in(path: PurePosixPath | Path) -> Split | Literal[""]:
    """Return the split that a path names: in a folder, or in the name of a file such as instances_val2017.json."""
    words = [part.lower() for part in path.parts[:-1]]
    words += path.stem.lower().replace("-", "_").split("_") if path.suffix == ".json" else []
    for word in words:
        split = SPLIT_NAMES.get(word.rstrip("0123456789"))
        if split:
            return split
    return ""
