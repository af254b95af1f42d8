"""Opening a RAW file: the mosaic as the sensor gave it, and what is needed to scale it.

RAW files are untrusted: LibRaw opens some damaged ones without a word, as zeros or as garbage. What it gives
is checked here.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from zoo.errors import InputError
from zoo.raw.black_levels import BlackLevels, read_black_levels
from zoo.raw.color_filters import color_indices
from zoo.raw.dng_tags import frame_tags
from zoo.raw.doubts import doubts_about, stated_neutral
from zoo.raw.native import native_messages
from zoo.raw.noise import NoiseProfile, read_noise_profile
from zoo.raw.plausible import DAMAGED, check_picture
from zoo.raw.sniff import HEAD, has_raw_header, other_kind
from zoo.raw.structure import Structure, check_decoded, read_structure
from zoo.storage.atomic import open_regular, reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

#: Of white balance, and what its inverse may be at least.
LARGEST_GAIN = 64.0
#: The bits of LibRaw's orientations. A picture is mirrored first and transposed last to make it upright.
MIRRORED_COLUMNS, MIRRORED_ROWS, TRANSPOSED = 1, 2, 4
FLIPS = range(8)
#: What LibRaw and the decoders in it print of data they could not read, and then pass over.
_DAMAGE = re.compile(r"unexpected end of file|data corrupted|corrupt JPEG|decoder error", re.IGNORECASE)
_NEED = "Use the camera's original file (.dng .arw .nef .cr2 .cr3 .raf ...)."


@dataclass(frozen=True)
class RawFrame:
    """One exposure.

    Attributes:
        mosaic: uint16 (H, W), visible pixels only.
        pattern: Colour index of each position of the repeating cell, (2, 2) for Bayer, (6, 6) for X-Trans; 0
            red, 1 green, 2 blue, 3 the second green of a Bayer cell.
        black: Black level of each of the four colour indices, in sensor units.
        white: Saturation level of each of the four colour indices, in sensor units.
        gains: White-balance gain of red, green, blue; green is 1.
        flip: Orientation LibRaw reports, the sum of MIRRORED_COLUMNS, MIRRORED_ROWS and TRANSPOSED that makes
            the picture upright: 0 as it is, 3 turned by 180 degrees, 5 by 90 counter-clockwise, 6 by 90
            clockwise, 1, 2, 4 and 7 mirrored.
        noise: What the file states of its noise; None if it states nothing.
        to_srgb: Matrix from white-balanced camera colours to linear sRGB, row by row; None if it is unknown.
        doubts: Sentences about what looks wrong and may still be right.
    """

    mosaic: npt.NDArray[np.uint16]
    pattern: npt.NDArray[np.int64]
    black: tuple[float, float, float, float]
    white: tuple[float, float, float, float]
    gains: tuple[float, float, float]
    flip: int = 0
    noise: NoiseProfile | None = None
    to_srgb: tuple[float, ...] | None = None
    doubts: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["bayer", "xtrans"]:
        """Return the kind of the sensor's colour-filter array."""
        return "bayer" if self.pattern.shape == (2, 2) else "xtrans"


def decode(source: Path | bytes) -> RawFrame:
    """Read a RAW file (a path, or the bytes of one) through LibRaw, in this process.

    For files that this machine made or that belong to a data set; what a user names goes through
    :class:`zoo.raw.subprocess_decoder.SubprocessDecoder`, which a file that crashes LibRaw does not end.

    Raises:
        InputError: The file cannot be read, is not a RAW file, is truncated or damaged, has no colour-filter
            mosaic, or has levels that leave no signal; the message says what was found and what is needed.
    """
    if isinstance(source, bytes):
        _check_head(source[:HEAD], "the RAW data")
        with open_frame(io.BytesIO(source), "the RAW data") as frame:
            return _copy(frame)
    with open_raw(source) as stream:
        # Where standard error is closed the file may have its number, 2, which is put to another use.
        descriptor = fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        with open_frame(f"/dev/fd/{descriptor}", str(source)) as frame:
            return _copy(frame)
    finally:
        os.close(descriptor)


def _copy(frame: RawFrame) -> RawFrame:
    return replace(frame, mosaic=frame.mosaic.copy())


def open_raw(path: Path) -> BinaryIO:
    """Open a file that says of itself that it may be a RAW file.

    Raises:
        InputError: It cannot be opened, or says otherwise.
    """
    with reading(path):
        # A link is followed; what it leads to must be a regular file.
        real = Path(os.path.realpath(path, strict=True))
    stream = open_regular(real)
    try:
        with reading(path):
            head = stream.read(HEAD)
            stream.seek(0)
        _check_head(head, str(path))
    except BaseException:
        stream.close()
        raise
    return stream


@contextlib.contextmanager
def open_frame(source: str | BinaryIO, name: str) -> Iterator[RawFrame]:
    """Open the frame of a path or stream, called `name` in messages; its mosaic is gone after the body.

    Raises:
        InputError: As :func:`decode`.
    """
    import rawpy

    with contextlib.ExitStack() as stack:
        with native_messages() as messages, _explained(name):
            stated = _stated(source, name)
            raw = stack.enter_context(rawpy.imread(source))
            frame = _frame(raw, name, stated)
        for message in messages:
            # Other native code may have written lines of its own meanwhile.
            if _DAMAGE.search(message):
                raise InputError(f"{name} is truncated or damaged ({_shown(message)}).", hint=DAMAGED)
        yield frame


def _check_head(head: bytes, name: str) -> None:
    if not head:
        raise InputError(f"{name} is empty.", hint=DAMAGED)
    if not has_raw_header(head):
        kind = other_kind(head)
        found = f"is {kind}, not a RAW file" if kind else "is not a RAW file: it has no known header"
        raise InputError(f"{name} {found}.", hint=_NEED)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what rawpy raises into InputErrors."""
    import rawpy

    no_memory = (
        MemoryError,
        rawpy.LibRawUnsufficientMemoryError,
        rawpy.LibRawMemPoolOverflowError,
        rawpy.LibRawTooBigError,
    )
    try:
        yield
    except (rawpy.LibRawFileUnsupportedError, rawpy.NotSupportedError) as error:
        raise InputError(f"{name} is not a RAW file that LibRaw recognises.", hint=_NEED) from error
    except (rawpy.LibRawIOError, rawpy.LibRawDataError) as error:
        raise InputError(f"{name} is truncated or damaged ({_shown(error)}).", hint=DAMAGED) from error
    except no_memory as error:
        raise InputError(f"{name} claims more pixels than fit in memory.", hint=DAMAGED) from error
    except (rawpy.LibRawError, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{name} cannot be read ({_shown(error)}).", hint=DAMAGED) from error


@dataclass(frozen=True)
class _Stated:
    """What a DNG file states itself of its mosaic."""

    neutral: tuple[float, ...] | None
    structure: Structure
    black: BlackLevels
    noise: NoiseProfile | None


def _stated(source: str | BinaryIO, name: str) -> _Stated | None:
    """What a file states itself; None for files other than DNG."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open(source, "rb")) if isinstance(source, str) else source
        tags = frame_tags(stream, name)
        stack.callback(stream.seek, 0)
        if tags is None:
            return None
        size = stream.seek(0, io.SEEK_END)
        return _Stated(
            stated_neutral(tags),
            read_structure(tags, size, name),
            read_black_levels(tags, name),
            read_noise_profile(tags),
        )


def _frame(raw: Any, name: str, stated: _Stated | None) -> RawFrame:
    pattern = color_indices(raw, None if stated is None else stated.structure.cell, name)
    mosaic, covered = raw.raw_image_visible, None
    black, white = _levels(raw)
    if stated is not None:
        # LibRaw leaves out a row or column where the visible pixels of a DNG file begin at an odd one.
        mosaic = stated.structure.visible(raw.raw_image)
        covered = stated.structure.covered(raw.raw_image)
        check_decoded(stated.structure, raw, mosaic, name)
        # LibRaw reports a part of the black levels, and lowers the white level of some makers' cameras.
        black = stated.black.of_colors(pattern) or [stated.black.flatten(mosaic, name)] * 4
        white = [stated.structure.white] * 4
    check_picture(mosaic, pattern, black, white, name)
    gains = _gains(raw.camera_whitebalance) or _gains(raw.daylight_whitebalance) or (1.0, 1.0, 1.0)
    return RawFrame(
        mosaic=mosaic,
        pattern=pattern,
        black=(float(black[0]), float(black[1]), float(black[2]), float(black[3])),
        white=(float(white[0]), float(white[1]), float(white[2]), float(white[3])),
        gains=gains,
        flip=raw.sizes.flip if raw.sizes.flip in FLIPS else 0,
        noise=None if stated is None else stated.noise,
        to_srgb=plausible_matrix(raw.color_matrix[:3, :3].ravel().tolist()),
        doubts=doubts_about(mosaic, black, white, gains, None if stated is None else stated.neutral, covered)
        + (() if stated is None else stated.structure.doubts() + stated.black.doubts(white[0])),
    )


def _levels(raw: Any) -> tuple[list[float], list[float]]:
    """Black and white levels of the four colour indices."""
    black = [float(level) for level in raw.black_level_per_channel]
    white = float(raw.white_level)
    # A camera's own saturation levels may lie below what the format can hold; absent ones are zero.
    own = [float(level) for level in raw.camera_white_level_per_channel or (0, 0, 0, 0)]
    return black, [level if low < level < white else white for low, level in zip(black, own, strict=True)]


def _gains(values: Any) -> tuple[float, float, float] | None:
    """Gains relative to green, None if they are missing or absurd."""
    red, green, blue = (float(value) for value in list(values)[:3])
    if not all(math.isfinite(value) and value > 0 for value in (red, green, blue)):
        return None
    gains = red / green, 1.0, blue / green
    return gains if max(gains) <= LARGEST_GAIN and min(gains) >= 1 / LARGEST_GAIN else None


def plausible_matrix(values: Sequence[float]) -> tuple[float, ...] | None:
    """Return a 3 x 3 colour matrix, row by row, if it leaves white white and is finite; else None."""
    if len(values) != 9 or not all(math.isfinite(value) and abs(value) <= LARGEST_GAIN for value in values):
        return None
    white = (math.fsum(values[row : row + 3]) for row in (0, 3, 6))
    return tuple(values) if all(abs(each - 1) < 0.01 for each in white) else None


def _shown(message: object) -> str:
    """LibRaw's message as text: bytes in its exceptions, after the file's name in what it prints."""
    if isinstance(message, str):
        message = message.rpartition(": ")[2]
    argument = message.args[0] if isinstance(message, Exception) and message.args else message
    text = argument.decode(errors="replace") if isinstance(argument, bytes) else str(argument)
    return text.strip()[:200]
