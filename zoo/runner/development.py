"""From one file to its picture: decode, pack, plan the tiles, infer, write."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts.architecture import WHOLE_FRAME
from zoo.images.writing import LARGEST, write_picture
from zoo.machine.memory import limit_of_process
from zoo.runner.budget import Footprint, Frame, Need, decoding_beside, refuse
from zoo.runner.tiles import Plan

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.artifacts.manifest import Manifest
    from zoo.raw.decode import RawFrame
    from zoo.raw.prefetch import PrefetchingDecoder
    from zoo.runner.file_result import FileResult
    from zoo.runner.infer import Canvas, InputSource
    from zoo.runner.loading import Loaded
    from zoo.runner.settings import Settings

#: A tiling that leaves room for decoding the next file meanwhile may take this much longer.
_FOR_DECODING_AHEAD = 1.05


class Development:
    """Files to pictures or masks, each written while it is computed, the next decoded meanwhile if there is room.

    Args:
        loaded: The network.
        need: The memory it takes on the engine that runs it.
        decoder: May have begun the first file.
        settings: With `memory` set.
        reserve: Bytes that the engine has set aside.

    Raises:
        UsageError: The memory does not suffice for the network by itself.
    """

    def __init__(
        self, loaded: Loaded, need: Footprint, decoder: PrefetchingDecoder, settings: Settings, reserve: int
    ) -> None:
        self._loaded, self._settings, self._decoder, self._reserve = loaded, settings, decoder, reserve
        self._manifest, self._need = loaded.artifact.manifest, need
        assert settings.memory is not None
        of_process = limit_of_process()  # now that the engine has taken its addresses
        self._most = settings.memory if of_process is None else min(settings.memory, of_process)
        sides = (settings.tile, getattr(loaded.session, "most_side", None))
        #: a tile's longest side, as the user asks and the engine allows
        self._tile: int | None = min((side for side in sides if side), default=None)
        if self._most < need.base:
            raise refuse(need.base, "The network by itself")

    def write(self, result: FileResult, following: Sequence[Path] = ()) -> None:
        """Write the picture of `result.path` to `result.output`. following: the next file, if there is one."""
        canvas, parts = self.parts(result, following)
        assert result.output is not None
        started = time.perf_counter()
        write_picture(result.output, parts, *canvas.size, canvas.channels, self._settings.format)
        result.steps["write"] = time.perf_counter() - started - result.steps["infer"]

    def array(self, result: FileResult) -> npt.NDArray[Any]:
        """Return the upright picture of `result.path`, (H, W, channels) of uint8, or uint16 for TIFF."""
        import numpy as np

        canvas, parts = self.parts(result)
        width, height = canvas.size
        dtype = np.uint8 if canvas.largest == 255 else np.uint16
        picture = np.empty((height, width, canvas.channels), dtype=dtype)
        row = 0
        for part in parts:
            picture[row : row + len(part)] = part
            row += len(part)
        return picture

    def parts(
        self, result: FileResult, following: Sequence[Path] = ()
    ) -> tuple[Canvas, Iterator[npt.NDArray[Any]]]:
        """Decode and plan a file; return its picture's frame and its parts, which are computed as they are taken."""
        from zoo.images.pixels import image_size
        from zoo.raw.develop import matrix_of
        from zoo.runner.infer import Canvas, infer

        source: InputSource
        output = self._manifest.output
        if self._manifest.input.kind == "packed-raw":
            source, frame = self._raw(result, last=not following)
            flip, to_srgb = frame.flip, matrix_of(frame) if output.colors == "camera" else None
        else:
            width, height = image_size(result.path)
            self._within(self._most, result.path, Frame(height, width))  # before it is decoded
            source, flip, to_srgb = _packed_picture(result, self._manifest), 0, None
        largest = LARGEST[self._settings.format]
        canvas = Canvas(source, output.scale, output.channels, largest, flip, to_srgb)
        plan = self._plan(result, canvas, following)
        result.tiles, result.size = plan.tiles, canvas.size
        return canvas, _timed_parts(result, infer(self._loaded.session, canvas, plan))

    def _raw(self, result: FileResult, *, last: bool) -> tuple[InputSource, RawFrame]:
        """A RAW file as the network takes it, a part at a time, and as it is."""
        from zoo.raw.amplify import TARGET_LEVEL, auto_ratio
        from zoo.raw.pack import make_packer

        spec, ratio = self._manifest.input, self._settings.ratio
        # After the last file the decoder's memory is free for what the network computes.
        frame = self._decoder.take(result.path, last=last)
        result.steps["decode"], result.doubts = self._decoder.seconds, frame.doubts
        with result.timed("pack"):
            target = TARGET_LEVEL if spec.target_level is None else spec.target_level
            result.ratio = auto_ratio(frame, target) if ratio is None else ratio
            return make_packer(frame, spec, result.ratio), frame

    def _plan(self, result: FileResult, canvas: Canvas, following: Sequence[Path]) -> Plan:
        """The tiling. Has the next file decoded if there is room for that; else the decoder may have to go."""
        source, most = canvas.source, self._most
        raw = self._manifest.input.kind == "packed-raw"
        frame = Frame(*source.shape, source.height * source.width if raw else 0, canvas.rotated)

        plan, need = self._within(most, result.path, frame)
        planned = need.planned
        if raw and following:
            larger = max(1.0, size_of(following[0]) / max(1, size_of(result.path)))
            beside = decoding_beside(frame.pixels * larger)
            narrower, need = self._tiling(most - beside, frame)
            if need.planned + beside <= most and narrower.computed <= _FOR_DECODING_AHEAD * plan.computed:
                plan, planned = narrower, need.planned + beside
                self._decoder.begin(following[0])
            elif planned + decoding_beside(0) > most:
                self._decoder.end_child()
        result.planned = planned
        return plan

    def _tiling(self, limit: int, frame: Frame) -> tuple[Plan, Need]:
        """The tiling of a frame that is best within a limit, and what it needs, which may be more."""
        picture = self._settings.format
        plan = self._need.plan(frame, picture, limit, self._reserve, self._tile)
        return plan, self._need.need(frame, plan, picture, self._reserve)

    def _within(self, limit: int, path: Path, frame: Frame) -> tuple[Plan, Need]:
        """The same. Raises UsageError if it needs more."""
        plan, need = self._tiling(limit, frame)
        if need.most > limit:
            whole = (
                " in one piece, as this network needs it," if self._manifest.input.halo == WHOLE_FRAME else ""
            )
            raise refuse(self._need.least(frame, self._settings.format, self._tile), f"{path}{whole}")
        return plan, need


def reserve_for(need: Footprint, files: Sequence[Path], memory: int) -> int:
    """Return the bytes that the engine should reserve before any file is decoded, so that a tile of any of these fits.

    Camera files hold at least half a byte per pixel; smaller ones are planned for as if nothing were reserved. The
    result is also 0 if the address space is limited, because a reservation takes more of it than of memory. Without
    files it is enough for the largest tile that the memory allows.
    """
    if limit_of_process() is not None:
        return 0
    spec, scale = need.manifest.input, need.manifest.output.scale
    pixels = need.most_pixels(memory)
    if files and spec.kind == "packed-raw" and scale:
        pixels = min(pixels, 2 * max(map(size_of, files)) // scale**2)
    return need.reserve(pixels)


def size_of(file: Path) -> int:
    """Return the bytes of a file; 0 if they cannot be determined, which decoding it will report."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _timed_parts(result: FileResult, parts: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """The same parts; making them counts as inference, what becomes of them does not."""
    while True:
        with result.timed("infer"):
            part = next(parts, None)
        if part is None:
            return
        yield part
        del part


def _packed_picture(result: FileResult, manifest: Manifest) -> InputSource:
    """A picture as the network takes it, whole and upright."""
    from zoo.images.pixels import as_input, read_pixels
    from zoo.raw.pack import Packed

    with result.timed("decode"):
        pixels = read_pixels(result.path, upright=True)
    with result.timed("pack"):
        data = as_input(pixels, manifest.input, result.path)
        scale = manifest.output.scale
        return Packed(data, 0, 0, data.shape[1] * scale, data.shape[2] * scale, cell=scale)
