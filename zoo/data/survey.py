"""Looking at what a dataset holds before anything is trained on it, as `zoo data` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Architecture, InputSpec, OutputSpec, crop_size
from zoo.data.choose import choose_dataset, leaving_out_bad, open_dataset
from zoo.data.contact_sheet import Tile, file_tile, sample_tile
from zoo.data.labelled_pictures import SPLITS
from zoo.errors import InputError, ZooError
from zoo.images.pixels import read_pixels
from zoo.storage.atomic import sha256_of, without_links

if TYPE_CHECKING:
    from zoo.contracts import Dataset, Reporter, SampleFiles, Split

#: Images on a contact sheet, or in each of its two halves.
_TILES, _HALF = 48, 24
#: Of images with boxes.
_BOXED_SIDE = 256


@dataclass
class Survey:
    """What a dataset holds.

    Attributes:
        data: Its full text.
        scenes: The number of scenes in each split.
        classes: The number of samples of each class in each split, by class.
        sizes: How many images have a size, by (width, height).
        faults: What is wrong with each file that cannot be used, by name.
        twice: Test images whose file is in the training split too, with the name it has there.
        unusable: Whether the data would be refused as it is, for files that the notes name.
        notes: What else a user should know.
        checked: Whether the data was held against a network.
        tiles: Of a contact sheet.
    """

    data: str
    id: str
    scenes: dict[Split, int]
    classes: dict[str, dict[Split, int]] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    twice: dict[str, str] = field(default_factory=dict)
    unusable: bool = False
    notes: list[str] = field(default_factory=list)
    checked: bool = False
    tiles: list[Tile] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "data": self.data,
            "scenes": self.scenes,
            "classes": self.classes,
            "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in self.sizes.most_common()],
            "faults": self.faults,
            "test_images_in_training": self.twice,
            "notes": self.notes,
            "checked_against_a_network": self.checked,
        }

    def raise_for_faults(self) -> None:
        """Raise InputError if there are files that cannot be used."""
        if self.faults or self.unusable:
            raise InputError(
                f"Files of {self.id} cannot be used: see above.",
                hint="Repair or remove them, or leave them out:  --skip-bad, or the option skip_bad=true",
            )


def survey_dataset(
    text: str,
    photos: Sequence[Path],
    architecture: Architecture | None,
    reporter: Reporter,
    limit: int | None = None,
) -> Survey:
    """Look at all files of a dataset, and at samples of it.

    Args:
        text: A dataset with options; "" for that of the network's task.
        photos: Folders added to its option `photos`.
        architecture: The network that it is held against; None for none.
        reporter: Shows progress.
        limit: The most files that are decoded; None for all.

    Raises:
        ZooError: The data cannot be used at all, or not by this network.
    """
    unusable = False
    try:
        full, dataset = _opened(text, photos, architecture)
    except InputError as error:
        # What is wrong may be files that could be left out: then the rest can be looked at.
        try:
            _, dataset = _opened(leaving_out_bad(text), photos, architecture)
        except ZooError:
            raise error from None
        full, unusable = text, True
    found = Survey(
        full, dataset.id, {split: len(dataset.scenes(split)) for split in SPLITS}, unusable=unusable
    )
    found.notes += dataset.notes()
    files = dataset.files()
    _count_classes(found, files)
    _look_at_files(found, files[:limit], reporter)
    found.checked = architecture is not None
    # A box means nothing without its image.
    architecture = architecture or _detector_for(dataset)
    if architecture is not None:
        found.tiles = list(_samples(dataset, architecture))
    else:
        names = {each.name for each in files} - found.faults.keys()
        found.tiles = [file_tile(each) for each in _spread([each for each in files if each.name in names])]
    return found


def _detector_for(dataset: Dataset) -> Architecture | None:
    """Return specs of a network that could use a dataset of boxes; None for any other."""
    if dataset.tasks != {"detection"}:
        return None
    stand_in = Architecture()
    stand_in.id, stand_in.task = "any detector", "detection"
    stand_in.input = InputSpec("rgb", 3, example=(_BOXED_SIDE, _BOXED_SIDE))
    stand_in.output = OutputSpec("boxes", max(1, len(dataset.class_names())))
    return stand_in


def _opened(text: str, photos: Sequence[Path], architecture: Architecture | None) -> tuple[str, Dataset]:
    return open_dataset(text, photos) if architecture is None else choose_dataset(text, photos, architecture)


def _count_classes(found: Survey, files: Iterable[SampleFiles]) -> None:
    for each in files:
        for label in each.labels:
            counts = found.classes.setdefault(label, dict.fromkeys(SPLITS, 0))
            counts[each.split] += 1
    found.classes = {label: found.classes[label] for label in sorted(found.classes, key=_by_number)}


def _look_at_files(found: Survey, files: Sequence[SampleFiles], reporter: Reporter) -> None:
    """Decode all files, and find those that are in two splits."""
    if not files:
        return
    trained: dict[str, str] = {}
    tested: dict[str, str] = {}
    reporter.start("look at the images", len(files), "images")
    for each in files:
        try:
            for path in each.images:
                height, width = read_pixels(path, upright=True).shape[:2]
                found.sizes[width, height] += 1
            digest = sha256_of(without_links(each.images[0]))
            if each.split == "test":
                tested[each.name] = digest
            else:
                trained[digest] = each.name
        except (InputError, OSError) as error:
            found.faults[each.name] = str(error).splitlines()[0]
        reporter.advance()
    reporter.finish()
    found.twice = {name: trained[digest] for name, digest in tested.items() if digest in trained}


def _spread(files: Sequence[SampleFiles]) -> list[SampleFiles]:
    """Return files of all classes and splits in turn."""
    groups: dict[tuple[tuple[str, ...], str], list[SampleFiles]] = {}
    for each in files:
        groups.setdefault((each.labels[:1], each.split), []).append(each)
    order = [
        groups[key] for key in sorted(groups, key=lambda key: ([_by_number(each) for each in key[0]], key[1]))
    ]
    chosen: list[SampleFiles] = []
    position = 0
    while len(chosen) < _TILES and any(len(group) > position for group in order):
        chosen += [group[position] for group in order if len(group) > position]
        position += 1
    step = max(1.0, len(chosen) / _TILES)
    return [chosen[int(index * step)] for index in range(min(_TILES, len(chosen)))]


def _by_number(label: str) -> tuple[int, str]:
    """Sort class 9 before class 10."""
    return (len(label) if label.isdecimal() else 0, label)


def _samples(dataset: Dataset, architecture: Architecture) -> Iterator[Tile]:
    """Yield samples as the network sees them: for evaluation or calibration, then for training."""
    spec = architecture.input
    size = crop_size(*spec.example)
    if not (spec.fixed_size and dataset.rectangular):
        side = min(spec.example)
        size = side - side % spec.multiple_of
    names = dataset.class_names()
    for what, stream in (
        ("calibration", dataset.calibration(architecture, size, 0)),
        ("training", dataset.crops(architecture, size, 0, _HALF)),
    ):
        for sample in islice(stream, _HALF):
            yield sample_tile(sample, what, names)
