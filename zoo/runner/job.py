"""`zoo run`: one artifact, many files."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Reporter, SilentReporter
from zoo.errors import OutputError, UsageError, ZooError
from zoo.images.writing import LARGEST, SUFFIXES, Format, needs_whole, write_picture
from zoo.machine.memory import limit_of_process, peak_rss_mb
from zoo.raw.prefetch import PrefetchingDecoder
from zoo.runner.budget import USUAL, Footprint, Frame, Need, decoding_beside, footprint, refuse
from zoo.runner.loading import Loaded
from zoo.runner.tiles import Plan
from zoo.storage.atomic import writing

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.artifacts.manifest import Manifest
    from zoo.runner.infer import Canvas, InputSource

#: A tiling that leaves room for decoding the next file meanwhile may take this much longer.
_FOR_DECODING_AHEAD = 1.05


@dataclass(frozen=True)
class Settings:
    """How to run.

    out:    folder for pictures; None if none are made.
    ratio:  amplification; None chooses it for each file.
    tile:   longest side in input pixels of what the network sees at once, halo included; None chooses.
    overwrite: replace pictures that are there. resume: leave them, and do the others.
    memory: bytes that this process and the one that decodes may hold, all in all.
    """

    out: Path | None
    format: Format = "png"
    ratio: float | None = None
    tile: int | None = None
    overwrite: bool = False
    resume: bool = False
    memory: int = USUAL


@dataclass
class FileResult:
    """What became of one file.

    steps: seconds of decode, pack, infer and write. size: width and height of the picture as written.
    top: of a classifier, the five highest (class index, logit). planned: bytes it was expected to peak at.
    skipped: its picture was there already. error: why it failed, else None.
    """

    path: Path
    output: Path | None = None
    size: tuple[int, int] | None = None
    ratio: float | None = None
    tiles: int = 0
    steps: dict[str, float] = field(default_factory=dict)
    top: list[tuple[int, float]] | None = None
    planned: int | None = None
    skipped: bool = False
    error: ZooError | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for `--json`; times in milliseconds."""
        value: dict[str, Any] = {"file": str(self.path), "ok": self.error is None}
        if self.error is not None:
            return {**value, "error": self.error.message, "hint": self.error.hint}
        if self.skipped:
            return {**value, "output": str(self.output), "skipped": True}
        if self.top is not None:
            value["top"] = [{"class": index, "logit": logit} for index, logit in self.top]
        else:
            value |= {"output": str(self.output), "size": self.size, "ratio": self.ratio, "tiles": self.tiles}
            value["planned_mb"] = None if self.planned is None else round(self.planned / 2**20, 1)
        return {**value, "steps_ms": {name: round(seconds * 1000, 3) for name, seconds in self.steps.items()}}


def outputs_of(files: Sequence[Path], settings: Settings) -> list[Path]:
    """Where the picture of each file goes, after checking that all of them can be written there.

    Makes the output folder. Raises UsageError for an existing picture (unless `overwrite` is set) and for two
    inputs with one output, OutputError if the folder cannot be written to.
    """
    if settings.out is None:
        raise UsageError("Pictures need a folder to go to.", hint="Name one:  -o DIR")
    targets = [settings.out / (file.stem + SUFFIXES[settings.format]) for file in files]
    for target, times in Counter(targets).items():
        if times > 1:
            rivals = ", ".join(str(file) for file, each in zip(files, targets, strict=True) if each == target)
            raise UsageError(
                f"Several inputs would be written to {target}: {rivals}.",
                hint="Run them one at a time, each with its own -o.",
            )
    existing = [target for target in targets if target.exists()]
    if existing and not (settings.overwrite or settings.resume):
        others = f" and {len(existing) - 1} others exist" if len(existing) > 1 else " exists"
        raise UsageError(
            f"{existing[0]}{others} already.",
            hint="Replace with --overwrite, do the others with --resume, or name another folder with -o.",
        )
    with writing(settings.out):
        settings.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.out):
            pass
    return targets


def reserve_for(need: Footprint, files: Sequence[Path], memory: int) -> int:
    """Bytes the engine should set aside before any file is decoded, so that a tile of any of these fits in.

    Cameras' files hold at least half a byte a pixel; one that holds less is planned for as if nothing were set aside.
    That is so, too, where addresses are limited, which a reservation takes more of than it takes memory.
    """
    if limit_of_process() is not None:
        return 0
    spec, scale = need.manifest.input, need.manifest.output.scale
    pixels = need.most_pixels(memory)
    if spec.kind == "packed-raw" and scale:
        sizes = [_size(file) for file in files]
        pixels = min(pixels, 2 * max(sizes, default=0) // scale**2)
    return need.reserve(pixels)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # decoding it will tell


def run_files(
    loaded: Loaded,
    files: Sequence[Path],
    settings: Settings,
    report: Reporter | None = None,
    *,
    decoder: PrefetchingDecoder | None = None,
    reserve: int = 0,
) -> list[FileResult]:
    """Run the artifact on each file. A file that fails is noted, and the next one is taken.

    decoder: one that may have begun the first file. reserve: bytes that the engine has set aside. Raises UsageError
    or OutputError, before any work, if the pictures could not be written or the memory would do for nothing;
    OutputError also when the disk fills up meanwhile.
    """
    report = report or SilentReporter()
    output = loaded.artifact.manifest.output
    pictures = output.kind != "logits"
    if pictures and needs_whole(output.channels) and settings.format == "png":
        raise UsageError(
            f"This network gives {output.channels} masks, which PNG cannot hold.", hint="Use --format tiff"
        )
    targets: Sequence[Path | None] = outputs_of(files, settings) if pictures else [None] * len(files)
    results = [FileResult(*pair) for pair in zip(files, targets, strict=True)]
    for result in results:
        result.skipped = settings.resume and result.output is not None and result.output.exists()
    left = [result for result in results if not result.skipped]
    report.start("run", len(left), "files")
    with contextlib.ExitStack() as stack:
        decoder = decoder or stack.enter_context(PrefetchingDecoder())
        batch = _Batch(loaded, settings, decoder, reserve) if pictures and left else None
        for number, result in enumerate(left):
            try:
                if batch is None:
                    _classify(loaded, result)
                else:
                    batch.develop(result, [each.path for each in left[number + 1 :][:1]])
            except OutputError:
                raise
            except ZooError as error:
                result.error = error
                if len(files) > 1:
                    report.note(f"{result.path}: {error}")
            except MemoryError:
                result.error = ZooError(
                    f"{result.path} does not fit in memory.", hint="Allow less:  --memory 256MB"
                )
            report.advance(1, peak_mb=round(peak_rss_mb()))
    report.finish()
    return results


@contextmanager
def _timed(result: FileResult, step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    result.steps[step] = result.steps.get(step, 0.0) + time.perf_counter() - started


class _Batch:
    """Files to pictures or masks, each written while it is computed, the next decoded meanwhile if there is room."""

    def __init__(self, loaded: Loaded, settings: Settings, decoder: PrefetchingDecoder, reserve: int) -> None:
        self._loaded, self._settings, self._decoder, self._reserve = loaded, settings, decoder, reserve
        self._manifest = loaded.artifact.manifest
        of_process = limit_of_process()  # now that the engine has taken its addresses
        self._most = settings.memory if of_process is None else min(settings.memory, of_process)
        self._need = footprint(loaded.artifact, engine=loaded.engine)
        sides = (settings.tile, getattr(loaded.session, "most_side", None))
        #: a tile's longest side, as the user asks and the engine allows
        self._tile: int | None = min((side for side in sides if side), default=None)
        least = self._need.base
        if self._most < least:
            raise refuse(least, "The network by itself")

    def develop(self, result: FileResult, following: Sequence[Path]) -> None:
        """One file. following: the next one, if there is one."""
        from zoo.runner.infer import Canvas, infer

        source: InputSource
        if self._manifest.input.kind == "packed-raw":
            source, flip = self._raw(result, last=not following)
        else:
            source, flip = _packed_picture(result, self._manifest), 0
        output = self._manifest.output
        canvas = Canvas(source, output.scale, output.channels, LARGEST[self._settings.format], flip)
        plan = self._plan(result, canvas, following)
        result.tiles = plan.tiles
        parts = _timed_parts(result, infer(self._loaded.session, canvas, plan))
        assert result.output is not None
        started = time.perf_counter()
        write_picture(result.output, parts, *canvas.size, output.channels, self._settings.format)
        result.steps["write"] = time.perf_counter() - started - result.steps["infer"]
        result.size = canvas.size

    def _raw(self, result: FileResult, *, last: bool) -> tuple[InputSource, int]:
        """A RAW file as the network takes it, a part at a time, and how the picture is to be turned."""
        from zoo.raw.amplify import TARGET_LEVEL, auto_ratio
        from zoo.raw.pack import make_packer

        spec, ratio = self._manifest.input, self._settings.ratio
        with _timed(result, "decode"):
            # After the last file the decoder's memory is free for what the network computes.
            frame = self._decoder.take(result.path, last=last)
        with _timed(result, "pack"):
            target = TARGET_LEVEL if spec.target_level is None else spec.target_level
            result.ratio = auto_ratio(frame, target) if ratio is None else ratio
            return make_packer(frame, spec, result.ratio), frame.flip

    def _plan(self, result: FileResult, canvas: Canvas, following: Sequence[Path]) -> Plan:
        """The tiling. Has the next file decoded if there is room for that; else the decoder may have to go."""
        source, picture, most = canvas.source, self._settings.format, self._most
        raw = self._manifest.input.kind == "packed-raw"
        frame = Frame(*source.shape, source.height * source.width if raw else 0, canvas.rotated)

        def within(limit: int) -> tuple[Plan, Need]:
            plan = self._need.plan(frame, picture, limit, self._reserve, self._tile)
            return plan, self._need.need(frame, plan, picture, self._reserve)

        plan, need = within(most)
        planned = need.planned
        if need.most > most:
            raise refuse(self._need.least(frame, picture, self._tile), str(result.path))
        if raw and following:
            larger = max(1.0, _size(following[0]) / max(1, _size(result.path)))
            beside = decoding_beside(frame.pixels * larger)
            narrower, need = within(most - beside)
            if need.planned + beside <= most and narrower.computed <= _FOR_DECODING_AHEAD * plan.computed:
                plan, planned = narrower, need.planned + beside
                self._decoder.begin(following[0])
            elif planned + decoding_beside(0) > most:
                self._decoder.end_child()
        result.planned = planned
        return plan


def _timed_parts(result: FileResult, parts: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """The same parts; making them counts as inference, what becomes of them does not."""
    while True:
        with _timed(result, "infer"):
            part = next(parts, None)
        if part is None:
            return
        yield part
        del part


def _packed_picture(result: FileResult, manifest: Manifest) -> InputSource:
    """A picture as the network takes it, whole and upright."""
    from zoo.images.pixels import as_input, read_pixels
    from zoo.raw.pack import Packed

    with _timed(result, "decode"):
        pixels = read_pixels(result.path, upright=True)
    with _timed(result, "pack"):
        data = as_input(pixels, manifest.input, result.path)
        scale = manifest.output.scale
        return Packed(data, 0, 0, data.shape[1] * scale, data.shape[2] * scale, cell=scale)


def _classify(loaded: Loaded, result: FileResult) -> None:
    """One picture to the five highest logits."""
    import numpy as np

    from zoo.runner.rgb_input import read_rgb

    with _timed(result, "decode"):
        inputs = read_rgb(result.path, loaded.artifact.manifest.input)
    with _timed(result, "infer"):
        logits = loaded.session.run(inputs)[0]
    best = np.argsort(-logits, kind="stable")[:5]
    result.top = [(int(index), float(logits[index])) for index in best]
