"""Where the text files of YOLO lie: those of boxes, and the one with the names of the classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from zoo.data.picture_files import PictureFile
from zoo.errors import InputError
from zoo.extras import require
from zoo.storage.atomic import read_text

#: What files with the names of classes are called.
_NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")


def text_file(root: Path, file: PictureFile) -> Path | None:
    """Return the text file of an image: in the folder labels instead of images, or next to it."""
    parts = list(PurePosixPath(file.stem).parts)
    candidates = [root.joinpath(*parts[:-1], f"{parts[-1]}.txt")]
    if "images" in parts[:-1]:
        at = len(parts) - 2 - parts[:-1][::-1].index("images")
        candidates.insert(0, root.joinpath(*parts[:at], "labels", *parts[at + 1 : -1], f"{parts[-1]}.txt"))
    if root.name == "images":
        candidates.insert(0, root.parent.joinpath("labels", *parts[:-1], f"{parts[-1]}.txt"))
    return next((path for path in candidates if path.is_file()), None)


def texts_beside(texts: Collection[Path]) -> list[Path]:
    """Return the text files in the folders of these, without those that hold no boxes."""
    folders = sorted({path.parent for path in texts})
    found = [path for folder in folders for path in sorted(folder.glob("*.txt"))]
    return [
        path for path in found if path.name not in _NAME_FILES and not path.name.lower().startswith("readme")
    ]


def class_names(root: Path) -> Sequence[str]:
    """Return the names of the classes from a file in the folder or above it; none if there is no such file."""
    for path in (folder / name for folder in (root, root.parent) for name in _NAME_FILES):
        if not path.is_file():
            continue
        text = read_text(path)
        if path.suffix not in (".yaml", ".yml"):
            return [line.strip() for line in text.splitlines() if line.strip()]
        yaml = require("yaml", f"Reading {path.name}")
        try:
            names = yaml.safe_load(text)["names"]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} does not state names: {error}", hint="It needs a list 'names'."
            ) from error
        return (
            [str(names[key]) for key in sorted(names)] if isinstance(names, dict) else [str(n) for n in names]
        )
    return ()
