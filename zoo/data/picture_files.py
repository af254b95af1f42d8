"""Finding picture files below a folder, and finding out which of them are damaged without decoding them all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from zoo.errors import InputError, UsageError
from zoo.images.pixels import SUFFIXES, read_pixels
from zoo.storage.atomic import open_linked

#: The least side of a picture that can be used, in pixels.
SMALLEST_SIDE = 8
#: What is read at each end of a file.
_END = 4096
_NAMED = 3
_NO_PICTURES = "__MACOSX"
#: Images that are decoded to learn about all, and files that may have more than 8 bits.
_LOOKED_AT, _DEEP = 16, (".png", ".tif", ".tiff")
_LEAST_BRIGHT = 256

Item = TypeVar("Item")


@dataclass(frozen=True)
class PictureFile:
    """A picture file, as far as it is known without decoding it.

    Attributes:
        name: Its path below the folder that the user named, with slashes.
        path: Where it is.
        digest: Of its length and both of its ends.
    """

    name: str
    path: Path
    digest: str = ""

    @property
    def stem(self) -> str:
        """Return the name without its suffix."""
        return PurePosixPath(self.name).with_suffix("").as_posix()


def folder_of(text: str, owner: str, option: str) -> Path:
    """Return the folder that an option names.

    Args:
        text: The value of the option.
        owner: Id of the dataset, for messages.
        option: Name of the option.

    Raises:
        UsageError: It is empty.
        InputError: There is no such folder.
    """
    if not text:
        raise UsageError(f"{owner} needs a folder.", hint=f"Name it:  --data '{owner}({option}=DIR)'")
    path = Path(text).expanduser()
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise InputError(f"The folder {path} {what}.", hint=f"Name another:  --data '{owner}({option}=DIR)'")
    return path


def find_pictures(folder: Path) -> list[PictureFile]:
    """Return the picture files in a folder and below it, in order of their names; hidden ones are left out.

    Links to folders are followed, once each.
    """
    found: list[PictureFile] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(each for each in folders if _is_shown(each))
        found += [
            PictureFile(Path(place, each).relative_to(folder).as_posix(), Path(place, each))
            for each in files
            if _is_shown(each) and os.path.splitext(each)[1].lower() in SUFFIXES
        ]
    return sorted(found, key=lambda file: file.name)


def check_pictures(
    files: Iterable[PictureFile], *, decode: bool = False, labels: bool = False
) -> tuple[list[PictureFile], dict[str, str]]:
    """Look at both ends of each file, and decode those that look incomplete.

    Args:
        files: The files.
        decode: Whether all are decoded, which finds damage in the middle too.
        labels: Whether their numbers are those of classes, and not brightness.

    Returns:
        The usable files with their digests, and what is wrong with each of the others, by its name.

    Raises:
        InputError: Images with 16 bits hold numbers of 8 bits.
    """
    usable: list[PictureFile] = []
    faults: dict[str, str] = {}
    for file in files:
        try:
            usable.append(PictureFile(file.name, file.path, _checked(file.path, decode)))
        except InputError as error:
            faults[file.name] = error.message
    if not labels:
        _refuse_black(usable)
    return usable, faults


def spread(items: Sequence[Item]) -> list[Item]:
    """Return 16 of the items, spread over all of them; all if there are fewer."""
    step = max(1.0, len(items) / _LOOKED_AT)
    return [items[int(index * step)] for index in range(min(len(items), _LOOKED_AT))]


def refuse_or_skip(
    faults: dict[str, str], what: str, owner: str, notes: list[str], *, skip_bad: bool
) -> None:
    """Refuse files that cannot be used, or note that they are left out.

    Args:
        faults: What is wrong with each, by name.
        what: They are, as in "cannot be read".
        owner: Id of the dataset.
        notes: Receives the note.
        skip_bad: Whether they are left out.

    Raises:
        InputError: There are some, and they are not left out.
    """
    if not faults:
        return
    message = f"{counted(len(faults), 'file')} {what}: {listed(list(faults.values()), '; ')}"
    if not skip_bad:
        raise InputError(
            f"{message.rstrip('.')}.",
            hint=f"Repair or remove them, or leave them out:  --skip-bad, or --data '{owner}(...,skip_bad=true)'",
        )
    notes.append(f"Left out: {message}")


def counted(number: int, noun: str) -> str:
    """Return "1 file", "2 files"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _NAMED
    return between.join(names[:_NAMED]) + (f"{between}and {more:,} more" if more > 0 else "")


def _refuse_black(files: Sequence[PictureFile]) -> None:
    """Refuse numbers of 8 bits stored with 16, which mean black: any camera's image reaches further."""
    brightest = 0
    chosen = spread([file for file in files if file.path.suffix.lower() in _DEEP])
    for file in chosen:
        with contextlib.suppress(InputError):  # damage in the middle shows when the file is needed
            pixels = read_pixels(file.path)
            brightest = max(brightest, int(pixels.max()) if pixels.dtype == "uint16" else _LEAST_BRIGHT)
        if brightest >= _LEAST_BRIGHT:
            return
    if brightest:
        raise InputError(
            f"{counted(len(chosen), 'image')} with 16 bits that {'was' if len(chosen) == 1 else 'were'} looked at, "
            f"such as {chosen[0].path}, have no value above {brightest} of 65,535, and would be taken as black.",
            hint="Save them with 8 bits, or multiply their values by 257.",
        )


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name != _NO_PICTURES


def _checked(path: Path, decode: bool) -> str:
    """Return the digest of a file. Raises InputError for one that cannot be used."""
    from PIL import Image

    try:
        with open_linked(path) as file:
            length = os.fstat(file.fileno()).st_size
            if not length:
                raise InputError(f"{path} is empty (0 bytes)")
            head = file.read(_END)
            file.seek(max(0, length - _END))
            tail = file.read()
            file.seek(0)
            width, height, complete = _opened(file, tail)
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error) if getattr(error, "strerror", None) else "not an image, or damaged"
        raise InputError(f"{path} cannot be read as an image ({reason})") from error
    if min(width, height) < SMALLEST_SIDE:
        raise InputError(
            f"{path} has only {width}x{height} pixels; sides of at least {SMALLEST_SIDE} are required"
        )
    if decode or not complete:
        read_pixels(path)
    return hashlib.sha256(b"%d:%d:" % (length, len(head)) + head + tail).hexdigest()[:32]


def _opened(file: BinaryIO, tail: bytes) -> tuple[int, int, bool]:
    """Return the width and height of an image, and whether it is known to be complete."""
    from PIL import Image

    with Image.open(file) as image:
        end = _ENDS.get(image.format or "")
        width, height = image.size
        return width, height, end is not None and end in tail


#: What the end of a complete file holds.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
