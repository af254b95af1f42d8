"""`zoo run`: one artifact, many files."""

from __future__ import annotations

import functools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts import Reporter, SilentReporter
from zoo.errors import OutputError, UsageError, ZooError
from zoo.files import writing
from zoo.raw.isolated import IsolatedDecoder
from zoo.runner.loading import Loaded
from zoo.runner.memory import peak_rss_mb
from zoo.runner.pictures import LARGEST, SUFFIXES, Format, write_picture
from zoo.runner.tiles import Plan, plan_tiles

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.artifacts.manifest import Manifest
    from zoo.contracts import InputSpec
    from zoo.raw.decode import RawFrame
    from zoo.runner.infer import Canvas, Source

#: Memory for what the engine computes at once, and what it takes per input pixel: measured with ONNX Runtime
#: 1.31 on `unet` and `lighter-unet`. Sixteen bits are computed in 32 on a CPU.
_TILE_BYTES = 160 * 2**20
_INTEGER_BYTES_PER_PIXEL = 350
_FLOAT_BYTES_PER_PIXEL = 1100
#: Of a small board's memory a tile gets no more than this share.
_SHARE = 1 / 16


@dataclass(frozen=True)
class Settings:
    """How to run.

    out:    folder for pictures; None if none are made.
    ratio:  amplification; None chooses it for each file.
    tile:   longest side in input pixels of what the network sees at once, halo included; None chooses.
    memory_mb: of the device.
    """

    out: Path | None
    format: Format = "png"
    ratio: float | None = None
    tile: int | None = None
    overwrite: bool = False
    memory_mb: int = 4096


@dataclass
class FileResult:
    """What became of one file.

    steps: seconds of decode, pack, infer and write. size: width and height of the picture as written.
    top: of a classifier, the five highest (class index, logit). error: why it failed, else None.
    """

    path: Path
    output: Path | None = None
    size: tuple[int, int] | None = None
    ratio: float | None = None
    tiles: int = 0
    steps: dict[str, float] = field(default_factory=dict)
    top: list[tuple[int, float]] | None = None
    error: ZooError | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for `--json`; times in milliseconds."""
        value: dict[str, Any] = {"file": str(self.path), "ok": self.error is None}
        if self.error is not None:
            return {**value, "error": self.error.message, "hint": self.error.hint}
        if self.top is not None:
            value["top"] = [{"class": index, "logit": logit} for index, logit in self.top]
        else:
            value |= {"output": str(self.output), "size": self.size, "ratio": self.ratio, "tiles": self.tiles}
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
    if existing and not settings.overwrite:
        others = f" and {len(existing) - 1} others exist" if len(existing) > 1 else " exists"
        raise UsageError(
            f"{existing[0]}{others} already.",
            hint="Replace with --overwrite, or name another folder with -o.",
        )
    with writing(settings.out):
        settings.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.out):
            pass
    return targets


def run_files(
    loaded: Loaded, files: Sequence[Path], settings: Settings, report: Reporter | None = None
) -> list[FileResult]:
    """Run the artifact on each file. A file that fails is noted, and the next one is taken.

    Raises UsageError or OutputError, before any work, if the pictures could not be written; OutputError also
    when the disk fills up meanwhile.
    """
    report = report or SilentReporter()
    output = loaded.artifact.manifest.output
    pictures = output.kind != "logits"
    if pictures and output.channels not in (1, 3) and settings.format == "png":
        raise UsageError(
            f"This network gives {output.channels} masks, which PNG cannot hold.", hint="Use --format tiff"
        )
    targets: Sequence[Path | None] = outputs_of(files, settings) if pictures else [None] * len(files)
    results: list[FileResult] = []
    report.start("run", len(files), "files")
    with IsolatedDecoder() as decoder:
        for file, target in zip(files, targets, strict=True):
            result = FileResult(file, target)
            results.append(result)
            # After the last file the decoder's memory is free for what the network computes.
            decode = functools.partial(decoder.decode, last=len(results) == len(files))
            try:
                if target is None:
                    _classify(loaded, result)
                else:
                    _develop(loaded, result, target, settings, decode)
            except OutputError:
                raise
            except ZooError as error:
                result.error = error
                if len(files) > 1:
                    report.note(f"{file}: {error}")
            except MemoryError:
                result.error = ZooError(
                    f"{file} does not fit in memory.", hint="Try smaller tiles:  --tile 384"
                )
            report.advance(1, peak_mb=round(peak_rss_mb()))
    report.finish()
    return results


@contextmanager
def _timed(result: FileResult, step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    result.steps[step] = result.steps.get(step, 0.0) + time.perf_counter() - started


def _develop(
    loaded: Loaded, result: FileResult, target: Path, settings: Settings, decode: Callable[[Path], RawFrame]
) -> None:
    """One file to one picture or mask, which is written while it is computed."""
    from zoo.runner.infer import Canvas, infer

    manifest = loaded.artifact.manifest
    source: Source
    if manifest.input.kind == "packed-raw":
        source, flip = _packed_raw(result, manifest.input, settings, decode)
    else:
        source, flip = _packed_picture(result, manifest), 0
    output = manifest.output
    canvas = Canvas(source, output.scale, output.channels, LARGEST[settings.format], flip)
    plan = _plan(loaded, canvas, settings)
    result.tiles = plan.tiles
    parts = _timed_parts(result, infer(loaded.session, canvas, plan))
    started = time.perf_counter()
    write_picture(target, parts, *canvas.size, output.channels, settings.format)
    result.steps["write"] = time.perf_counter() - started - result.steps["infer"]
    result.size = canvas.size


def _timed_parts(result: FileResult, parts: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """The same parts; making them counts as inference, what becomes of them does not."""
    while True:
        with _timed(result, "infer"):
            part = next(parts, None)
        if part is None:
            return
        yield part
        del part


def _packed_raw(
    result: FileResult, spec: InputSpec, settings: Settings, decode: Callable[[Path], RawFrame]
) -> tuple[Source, int]:
    """A RAW file as the network takes it, a part at a time, and how the picture is to be turned."""
    from zoo.raw.amplify import TARGET_LEVEL, auto_ratio
    from zoo.raw.pack import packer

    with _timed(result, "decode"):
        frame = decode(result.path)
    with _timed(result, "pack"):
        target = TARGET_LEVEL if spec.target_level is None else spec.target_level
        result.ratio = auto_ratio(frame, target) if settings.ratio is None else settings.ratio
        return packer(frame, spec, result.ratio), frame.flip


def _packed_picture(result: FileResult, manifest: Manifest) -> Source:
    """A picture as the network takes it, whole and upright."""
    from zoo.pixels import as_input, read_pixels
    from zoo.raw.pack import Packed

    with _timed(result, "decode"):
        pixels = read_pixels(result.path, upright=True)
    with _timed(result, "pack"):
        data = as_input(pixels, manifest.input, result.path)
        scale = manifest.output.scale
        return Packed(data, 0, 0, data.shape[1] * scale, data.shape[2] * scale, cell=scale)


def _plan(loaded: Loaded, canvas: Canvas, settings: Settings) -> Plan:
    manifest = loaded.artifact.manifest
    budget = min(_TILE_BYTES, int(settings.memory_mb * 2**20 * _SHARE))
    integer = manifest.precision.startswith("int")  # int8, int4: narrower weights, but activations as int8
    pixels = budget // (_INTEGER_BYTES_PER_PIXEL if integer else _FLOAT_BYTES_PER_PIXEL)
    height, width = canvas.source.shape
    return plan_tiles(height, width, manifest.input, most_pixels=pixels, most_side=settings.tile)


def _classify(loaded: Loaded, result: FileResult) -> None:
    """One picture to the five highest logits."""
    import numpy as np

    from zoo.runner.rgb import read_rgb

    with _timed(result, "decode"):
        inputs = read_rgb(result.path, loaded.artifact.manifest.input)
    with _timed(result, "infer"):
        logits = loaded.session.run(inputs)[0]
    best = np.argsort(-logits, kind="stable")[:5]
    result.top = [(int(index), float(logits[index])) for index in best]
