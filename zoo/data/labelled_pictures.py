"""Pictures with a class each, found in folders of classes or by a table of labels, and their splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

from zoo.contracts import Split
from zoo.data.label_files import read_labels
from zoo.data.picture_files import (
    PictureFile,
    check_pictures,
    counted,
    find_pictures,
    listed,
    refuse_or_skip,
)
from zoo.data.splits import held_out
from zoo.errors import InputError

SPLITS: tuple[Split, ...] = get_args(Split)
#: What folders of splits, and splits in tables, are called.
SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class LabelledPicture:
    """A picture with a class.

    Attributes:
        label: Name of the class, as the folder or the table has it.
        stated: Whether the folder or the table also states the split; else a hash of the name decides.
    """

    file: PictureFile
    label: str
    split: Split
    stated: bool = False


def pictures_of_folders(
    root: Path, *, test_share: float, val_share: float, skip_bad: bool, notes: list[str]
) -> list[LabelledPicture]:
    """Return the pictures of folders of classes, in folders of splits or not.

    Args:
        root: Holds a folder for each class, or folders train, val and test that do.
        test_share: Of each class, if there are no folders of splits.
        val_share: Of each class of what is left, if no folder is for validation.
        skip_bad: Whether pictures that cannot be used are left out, rather than refused.
        notes: Receives what a user should know.

    Raises:
        InputError: There are no folders of classes, or pictures are outside them or cannot be read.
    """
    splits = split_folders(root)
    labels: dict[str, str] = {}
    stated: dict[str, Split] = {}
    alone: dict[str, str] = {}
    files = find_pictures(root)
    for file in files:
        parts = PurePosixPath(file.name).parts
        split = splits.get(parts[0]) if splits else None
        rest = parts[1:] if split else parts
        if len(rest) < 2 or (splits and not split):
            alone[file.name] = f"{file.path}"
            continue
        labels[file.name] = rest[0]
        if split:
            stated[file.name] = split
    _refuse_strays(root, alone, labels, splits, notes, skip_bad=skip_bad)
    _refuse_empty(root, splits, labels)
    kept = [file for file in files if file.name in labels]
    return _split(kept, labels, stated, test_share, val_share, notes, skip_bad=skip_bad)


def pictures_of_table(
    root: Path, table: Path, *, test_share: float, val_share: float, skip_bad: bool, notes: list[str]
) -> list[LabelledPicture]:
    """Return the pictures that a table of labels names; arguments as in :func:`pictures_of_folders`.

    Raises:
        InputError: The table and the folder do not match, or pictures cannot be read.
    """
    rows = read_labels(table)
    files = {file.name: file for file in find_pictures(root)}
    stems = Counter(file.stem for file in files.values())
    by_stem = {file.stem: file for file in files.values() if stems[file.stem] == 1}
    labels: dict[str, str] = {}
    stated: dict[str, Split] = {}
    missing: dict[str, str] = {}
    for row in rows:
        name = _name_below(root, table, row.file)
        file = files.get(name) or by_stem.get(name)
        if file is None:
            missing[name] = f"{row.file} (line {row.line} of {table.name})"
            continue
        if file.name in labels:
            raise InputError(f"{table}, line {row.line}: {file.path} has a label already.")
        labels[file.name] = row.label
        if row.split:
            if row.split.lower() not in SPLIT_NAMES:
                raise InputError(
                    f"{table}, line {row.line}: the split '{row.split}' is unknown.",
                    hint="Use train, val and test.",
                )
            stated[file.name] = SPLIT_NAMES[row.split.lower()]
    if len(missing) == len(rows):
        raise InputError(
            f"None of the {counted(len(rows), 'file')} that {table} names is in {root}, as {rows[0].file}.",
            hint="Names are relative to the folder: name the right one with root=DIR",
        )
    refuse_or_skip(missing, f"of {table} not in {root}", "folder", notes, skip_bad=skip_bad)
    unlabelled = {name: name for name in files if name not in labels}
    refuse_or_skip(unlabelled, f"in {root} without a label in {table}", "folder", notes, skip_bad=skip_bad)
    if stated and len(stated) < len(labels):
        without = next(name for name in labels if name not in stated)
        raise InputError(f"{table} states a split for some pictures, but none for {without}.")
    kept = [file for name, file in files.items() if name in labels]
    return _split(kept, labels, stated, test_share, val_share, notes, skip_bad=skip_bad)


def _name_below(root: Path, table: Path, stated: str) -> str:
    """The name of a picture below the folder, from one that is relative to it or to the table, or absolute."""
    if "\\" in stated and not (root / stated).is_file():
        stated = stated.replace("\\", "/")  # as Windows writes paths
    for path in (root / Path(stated).expanduser(), table.parent / stated):
        if path.is_file() and path.resolve().is_relative_to(root.resolve()):
            return path.resolve().relative_to(root.resolve()).as_posix()
    return PurePosixPath(stated).as_posix()


def split_folders(root: Path) -> dict[str, Split]:
    """Return the folders in `root` that are for a split, by name; none unless one of them is for training.

    Without a folder for testing, the one for validation is that, as ImageNet's is.

    Raises:
        InputError: Two are for one split.
    """
    found: dict[str, Split] = {}
    for path in sorted(root.iterdir()):
        split = SPLIT_NAMES.get(path.name.lower())
        if split and path.is_dir():
            if split in found.values():
                raise InputError(f"{root} has two folders for {split}, {path.name} being one of them.")
            found[path.name] = split
    if "train" not in found.values():
        return {}
    if "test" not in found.values():
        found = {name: "test" if split == "val" else split for name, split in found.items()}
    return found


def _split(
    files: Sequence[PictureFile],
    labels: Mapping[str, str],
    stated: Mapping[str, Split],
    test_share: float,
    val_share: float,
    notes: list[str],
    *,
    skip_bad: bool,
) -> list[LabelledPicture]:
    """Check the files, and assign splits to those that have none."""
    usable, faults = check_pictures(files, decode=skip_bad)
    refuse_or_skip(faults, "cannot be used", "folder", notes, skip_bad=skip_bad)
    splits: dict[str, Split] = dict(stated)
    open_labels = {file.name: labels[file.name] for file in usable if file.name not in stated}
    if "test" not in splits.values():
        for name in held_out(open_labels, test_share, "test"):
            splits[name] = "test"
    if "val" not in splits.values():
        rest = {f.name: labels[f.name] for f in usable if splits.get(f.name, "train") == "train"}
        counts = Counter(rest.values())
        # The last image of a class stays in training.
        for name in held_out({n: label for n, label in rest.items() if counts[label] > 1}, val_share, "val"):
            splits[name] = "val"
    return [
        LabelledPicture(file, labels[file.name], splits.get(file.name, "train"), file.name in stated)
        for file in usable
    ]


def _refuse_strays(
    root: Path,
    alone: dict[str, str],
    labels: Mapping[str, str],
    splits: Mapping[str, Split],
    notes: list[str],
    *,
    skip_bad: bool,
) -> None:
    """Refuse pictures that are in no folder of a class."""
    if not labels:
        where = f"{root}/{next(iter(splits))}" if splits else f"{root}"
        found = (
            f"has {counted(len(alone), 'picture')}, but no folder for each class"
            if alone
            else "has no pictures"
        )
        raise InputError(
            f"{where} {found}.",
            hint="Sort them into DIR/CLASS/, or name a table of labels:  "
            "--data 'folder(root=DIR,labels=FILE.csv)'",
        )
    refuse_or_skip(alone, "without a label, in no folder of a class", "folder", notes, skip_bad=skip_bad)


def _refuse_empty(root: Path, splits: Mapping[str, Split], labels: Mapping[str, str]) -> None:
    """Refuse folders of classes without a picture."""
    places = [root / name for name in splits] or [root]
    full = {PurePosixPath(name).parts[: 2 if splits else 1] for name in labels}
    empty = [
        path.as_posix()
        for place in places
        for path in sorted(place.iterdir())
        if path.is_dir()
        and not path.name.startswith((".", "__"))
        and path.relative_to(root).parts not in full
    ]
    if empty:
        raise InputError(
            f"{counted(len(empty), 'folder')} of a class without pictures: {listed(empty)}.",
            hint="Add pictures, or remove what is not a class.",
        )
