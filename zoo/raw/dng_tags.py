"""The tags of a DNG file's mosaic that LibRaw does not report, read from the TIFF structure.

Every count and offset is bounded, since the file is untrusted.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from zoo.errors import InputError
from zoo.raw.plausible import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SUBFILE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 262, 330, 50706
_CFA = 32803
#: Tags that no other format has: the camera's unique name, its color matrix, the neutral color.
_DNG_ALONE = frozenset({50708, 50721, 50728})
#: struct codes of the numeric TIFF types; rationals are pairs.
_TYPES = {1: "B", 3: "H", 4: "I", 5: "II", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
_RATIONAL = (5, 10)
#: Bytes of a value of each type, texts and bytes of any meaning included.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MOST_IFDS, _MOST_ENTRIES, _MOST_VALUES = 32, 1000, 1 << 16

_Entry = tuple[int, int, bytes]  # type, count, value or offset


@dataclass(frozen=True)
class FrameTags:
    """The tags of the directory that describes the mosaic, and of the one that describes the file.

    Attributes:
        numbers: Called with a tag of the mosaic; returns its values, or () if the directory does not have it.
        of_file: The same for a tag of the file, which may be the same directory.
        described: First and last byte (excluded) of each value of the mosaic's directory that lies apart from it.
    """

    numbers: Callable[[int], tuple[float, ...]]
    of_file: Callable[[int], tuple[float, ...]]
    described: tuple[tuple[int, int], ...] = ()


def frame_tags(stream: BinaryIO, name: str) -> FrameTags | None:
    """Find the mosaic of a DNG file.

    Args:
        stream: The file; its position changes.
        name: What errors call the file.

    Returns:
        None for files of other formats, and for files without a mosaic.

    Raises:
        InputError: If the TIFF structure is damaged.
    """
    with _explained(name):
        stream.seek(0)
        head = stream.read(8)
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
        if order is None or len(head) < 8:
            return None
        found = _directories(stream, order, struct.unpack(order + "I", head[4:])[0], name)
        first = next(found, {})
        if _DNG_VERSION not in first:
            if len(_DNG_ALONE & first.keys()) > 1:
                raise InputError(f"{name} is damaged: it is a DNG file without a version.", hint=DAMAGED)
            return None
        directories = [first, *found]

        def numbers(directory: Mapping[int, _Entry], tag: int) -> tuple[float, ...]:
            with _explained(name):
                return _numbers(stream, order, directory[tag], name) if tag in directory else ()

        frames = [each for each in directories if numbers(each, _PHOTOMETRIC) == (_CFA,)]
        # A file may hold several mosaics; the full one has a subfile type of 0.
        frames.sort(key=lambda each: numbers(each, _SUBFILE)[:1] != (0,))
        if not frames:
            return None
        return FrameTags(
            lambda tag: numbers(frames[0], tag),
            lambda tag: numbers(first, tag),
            tuple(_places(frames[0], order)),
        )


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (struct.error, OverflowError) as error:
        raise InputError(f"{name} has a damaged TIFF structure.", hint=DAMAGED) from error


def _directories(stream: BinaryIO, order: str, first: int, name: str) -> Iterator[Mapping[int, _Entry]]:
    """Yield the first directory of a TIFF file, those chained to it, and those that they name as their own."""
    waiting, seen = [first], set[int]()
    while waiting and len(seen) < _MOST_IFDS:
        offset = waiting.pop(0)
        if not offset or offset in seen:
            continue
        seen.add(offset)
        stream.seek(offset)
        count = int.from_bytes(stream.read(2), "little" if order == "<" else "big")
        content = stream.read(12 * min(count, _MOST_ENTRIES) + 4)
        entries: dict[int, _Entry] = {}
        # A preview's directory may be cut off: whether the mosaic's is whole, its tags show.
        for start in range(0, len(content) - 15, 12):
            tag, kind, values, value = struct.unpack_from(order + "HHI4s", content, start)
            entries.setdefault(tag, (kind, values, value))
        yield entries
        if count <= _MOST_ENTRIES and len(content) == 12 * count + 4:
            waiting += struct.unpack(order + "I", content[-4:])
        if _SUB_IFDS in entries:
            waiting += [int(each) for each in _numbers(stream, order, entries[_SUB_IFDS], name)][:_MOST_IFDS]


def _places(directory: Mapping[int, _Entry], order: str) -> Iterator[tuple[int, int]]:
    for kind, count, value in directory.values():
        size = count * _SIZES.get(kind, 0)
        if size > 4:
            begin = struct.unpack(order + "I", value)[0]
            yield begin, begin + size


def _numbers(stream: BinaryIO, order: str, entry: _Entry, name: str) -> tuple[float, ...]:
    kind, count, value = entry
    # 13 is an offset to a directory, which is stored as a LONG.
    code = _TYPES.get(4 if kind == 13 else kind)
    if code is None or not 0 < count <= _MOST_VALUES:
        raise InputError(f"{name} has a damaged TIFF structure.", hint=DAMAGED)
    form = f"{order}{count * len(code)}{code[0]}"
    size = struct.calcsize(form)
    if size > 4:
        stream.seek(struct.unpack(order + "I", value)[0])
        value = stream.read(size)
    found: Sequence[float] = struct.unpack(form, value[:size])
    if kind in _RATIONAL:
        found = [top / bottom if bottom else 0.0 for top, bottom in zip(found[::2], found[1::2], strict=True)]
    return tuple(found)
