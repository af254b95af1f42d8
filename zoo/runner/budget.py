"""How much memory running a network on a frame takes, and the tiling that stays within a limit.

The figures are for ONNX Runtime 1.31 on x86 and were measured as docs/benchmarks/memory says, which compares what this
predicts with what is then used.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.artifacts.manifest import MODEL_NAME
from zoo.errors import UsageError
from zoo.images.writing import Format, needs_whole, sample_bytes
from zoo.machine.memory import limit_of_process
from zoo.onnx.working_set import WorkingSet, artifact_working_set
from zoo.runner.tiles import Plan, plan_tiles

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact
    from zoo.artifacts.manifest import Manifest
    from zoo.contracts import DeviceProfile

MB = 2**20
#: The engine whose memory the figures below are.
FITTED = "onnxruntime"
#: What is used unless the user or the machine says otherwise.
USUAL = 384 * MB
#: Of a small device's memory this share is planned for: the rest is the system's.
SHARE = 0.8
#: Python, numpy, the engine and this program, before a model is loaded.
_PROCESS = 72 * MB
#: For each byte of the model file: the engine's copy and the form that its kernels want; while it is loaded, the file
#: and what is made of it, too.
_FILE_COPIES, _FILE_LOADING = 3.2, 6.0
#: What ONNX Runtime takes for each byte that is live: an arena in one piece, in integers and in floats, where
#: channels are brought into blocks; and an arena that grows.
_INTEGER, _FLOAT, _GROWN = 1.10, 1.30, 2.1
#: The same, and what it is more by itself, for an engine that was not fitted; measured with OpenVINO 2026.4.
_OTHER_INTEGER, _OTHER_FLOAT, _OTHER_PROCESS = 1.3, 1.75, 60 * MB
#: The arena's tables for each byte that is set aside, and how much must be for it not to fall apart.
_TABLES, _ROOM = 1 / 31, 2.0
#: ONNX Runtime sets aside less than this in one piece.
_LARGEST_RESERVE = 2047 * MB
#: Python, numpy and LibRaw in the child that decodes; and for each pixel, in the child and here: uint16.
_DECODER, _MOSAIC = 42 * MB, 2
#: What the engine takes more in a process of its own: 13 MB, or 22 MB if that is no copy of this one, and the memory
#: through which tiles come and go.
_SUPERVISED = 28 * MB
#: Rows on their way through the encoder, and what the kernel and the allocators hold back.
_WRITER = 14 * MB


@dataclass(frozen=True)
class Frame:
    """What the memory plan needs to know of a file.

    Attributes:
        height: Rows as the network sees them.
        width: Columns as the network sees them.
        pixels: Of the RAW mosaic; 0 for a picture.
        rotated: Whether the picture is turned by 90 degrees when it is written.
    """

    height: int
    width: int
    pixels: int = 0
    rotated: bool = False


@dataclass(frozen=True)
class Need:
    """Bytes at the peak.

    Attributes:
        planned: While the network computes.
        decoding: Before that, the process that decodes included.
    """

    planned: int
    decoding: int

    @property
    def most(self) -> int:
        """Return the higher of the two."""
        return max(self.planned, self.decoding)


class Footprint:
    """The memory an artifact takes.

    Args:
        manifest: Of the artifact.
        found: The working set of its network.
        engine: Id of the engine that runs it; the figures were fitted to ONNX Runtime.
        arena: Whether the engine keeps its memory in an arena.
        supervised: Whether the engine computes in a process of its own.

    Attributes:
        live: Bytes for each input pixel that is computed at once.
        base: Bytes once the network is loaded.
        loading: Bytes at the peak of loading it.
    """

    def __init__(
        self,
        manifest: Manifest,
        found: WorkingSet,
        *,
        engine: str = FITTED,
        arena: bool = True,
        supervised: bool = False,
    ) -> None:
        self.manifest = manifest
        size = manifest.files[MODEL_NAME].size
        self.live = found.live
        process = _PROCESS if engine == FITTED else _PROCESS + _OTHER_PROCESS
        process += _SUPERVISED if supervised else 0
        self.base = round(process + _FILE_COPIES * size)
        self.loading = round(process + _FILE_LOADING * size)
        if engine == FITTED:
            self._whole = (_INTEGER if found.integer else _FLOAT) if arena else _GROWN
            self._grown = _GROWN
        else:
            self._whole = self._grown = _OTHER_INTEGER if found.integer else _OTHER_FLOAT

    def per_pixel(self, reserve: int, pixels: int) -> float:
        """Return the bytes per pixel if `pixels` are computed at once and `reserve` bytes are set aside for them."""
        return self.live * (self._whole if reserve >= _ROOM * self.live * pixels else self._grown)

    def reserve(self, pixels: int) -> int:
        """Return the bytes to reserve for tiles of `pixels` pixels; 0 if the arena cannot be that large."""
        bytes_ = round(_ROOM * self.live * pixels) + MB
        return bytes_ if self._whole < self._grown and bytes_ <= _LARGEST_RESERVE else 0

    def most_pixels(self, limit: int) -> int:
        """Return the most pixels a tile could have under a limit in bytes if there were nothing else; at least one."""
        each = self.live * (self._whole + _TABLES * _ROOM)
        return max(1, int((limit - self.base - _WRITER) / each))

    def need(self, frame: Frame, plan: Plan, picture: Format, reserve: int) -> Need:
        """Return the memory for computing a frame in these tiles."""
        output = self.manifest.output
        side = plan.columns if frame.rotated else plan.rows
        strip = max(span.stop - span.start for span in side) * (plan.height if frame.rotated else plan.width)
        if needs_whole(output.channels):
            strip = 2 * plan.height * plan.width  # all of it, and once more by channel
        tile = plan.largest
        computing = (
            self.per_pixel(reserve, tile) * tile
            + strip * output.scale**2 * output.channels * sample_bytes(picture)
            + self.held(frame)
            + _WRITER
        )
        base = self.base + _TABLES * reserve
        # The first file is decoded while the network is loaded.
        decoding = self.loading + (decoding_beside(frame.pixels) if frame.pixels else self.held(frame))
        return Need(round(base + computing), decoding)

    def held(self, frame: Frame) -> int:
        """Return the bytes of the frame itself: the mosaic, or the image as stored and in floats."""
        if frame.pixels:
            return _MOSAIC * frame.pixels
        return round(frame.height * frame.width * self.manifest.input.channels * (4 + 4 + 1))

    def plan(
        self, frame: Frame, picture: Format, limit: int, reserve: int, most_side: int | None = None
    ) -> Plan:
        """Return the tiling that computes the fewest pixels within `limit` bytes, or else the one that needs least."""

        def bytes_of(plan: Plan) -> int:
            return self.need(frame, plan, picture, reserve).planned

        return plan_tiles(
            frame.height, frame.width, self.manifest.input, need=bytes_of, limit=limit, most_side=most_side
        )

    def least(self, frame: Frame, picture: Format = "png", most_side: int | None = None) -> int:
        """Return the lowest limit in bytes under which a frame can be run."""
        plan = self.plan(frame, picture, 0, 0, most_side)
        needed = self.need(frame, plan, picture, self.reserve(plan.largest)).most
        limit = 0
        # How large a picture is shows when it is decoded: the engine reserves what the limit allows until then.
        while not frame.pixels and needed > limit:
            limit = needed
            needed = self.need(frame, plan, picture, self.reserve(self.most_pixels(limit))).most
        return max(limit, needed)

    def whole(self, frame: Frame, reserve: int = 0) -> int:
        """Return the bytes that a frame takes in one piece."""
        return self.need(frame, self.plan(frame, "png", sys.maxsize, 0), "png", reserve).most

    def least_whole(self, frame: Frame) -> int:
        """Return the lowest limit in bytes under which a frame can be run in one piece."""

        def suffices(limit: int) -> bool:  # what the engine reserves grows with the limit
            return self.whole(frame, self.reserve(self.most_pixels(limit))) <= limit

        low, high = 0, self.whole(frame)
        while not suffices(high):
            low, high = high, 2 * high
        while high - low > MB:
            middle = (low + high) // 2
            low, high = (low, middle) if suffices(middle) else (middle, high)
        return high

    def frame(self, height: int, width: int) -> Frame:
        """Return the frame of a RAW file or image of height x width pixels; a classifier scales any to its own size."""
        if self.manifest.output.kind == "logits" or self.manifest.input.fixed_size:
            return Frame(*self.manifest.input.example)
        raw = self.manifest.input.kind == "packed-raw"
        cell = self.manifest.output.scale if raw else 1
        return Frame(-(-height // cell), -(-width // cell), height * width if raw else 0)


def footprint(artifact: Artifact, *, engine: str = FITTED, arena: bool = True) -> Footprint:
    """Return the footprint of an artifact.

    Raises:
        IntegrityError: The model may not be handed to an engine.
    """
    return Footprint(artifact.manifest, artifact_working_set(artifact), engine=engine, arena=arena)


def board_limit(profile: DeviceProfile) -> int:
    """Return the bytes of a board's physical memory that its system leaves to a run."""
    return round(SHARE * profile.memory_mb * MB)


def decoding_beside(pixels: float) -> int:
    """Return the bytes of the process that decodes a file of `pixels` pixels; 0 pixels if it waits."""
    return round(_DECODER + 2 * _MOSAIC * pixels)


def usual_limit(profile: DeviceProfile) -> int:
    """Return the default limit in bytes; less if the device or this process has less."""
    of_process = limit_of_process()
    limit = min(USUAL, board_limit(profile))
    return limit if of_process is None else min(limit, of_process)


def refuse(least: int, what: str) -> UsageError:
    """Return the error for a limit that cannot be met. least: bytes that would do. what: does not fit."""
    # a little more than was counted: engines round up what they take
    megabytes = -(-least * 21 // (20 * 10**6))
    return UsageError(
        f"{what} does not fit within the memory limit.",
        hint=f"Use at least --memory {megabytes}MB."
        + (" The shell sets a limit, too:  ulimit -v" if limit_of_process() is not None else ""),
    )
