"""A loaded artifact that turns files into pictures: what `zoo run`, `zoo bench` and Python callers use.

This module imports little, so that the process that decodes RAW files can start before numpy and the engine are
imported: see :func:`open_runner`.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from zoo.contracts import Reporter, SilentReporter
from zoo.errors import IntegrityError, OutputError, UsageError, ZooError
from zoo.processes.fork import can_fork
from zoo.raw.prefetch import PrefetchingDecoder
from zoo.runner.file_result import FileResult
from zoo.runner.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.artifacts import Artifact, Manifest
    from zoo.contracts import DeviceProfile
    from zoo.engines.engine_process import SpareProcess
    from zoo.runner.budget import Footprint
    from zoo.runner.development import Development
    from zoo.runner.loading import Loaded
    from zoo.runner.timing import Latency

StrPath = str | os.PathLike[str]

#: Bytes of each pixel of a photograph that is decoded, turned and made smaller.
_DECODED = 9


def open_runner(
    artifact: Artifact | StrPath,
    profile: DeviceProfile | str = "host",
    settings: Settings | None = None,
    *,
    engine: str | None = None,
    threads: int = 0,
    files: Sequence[Path] = (),
    decode_ahead: bool = True,
    reporter: Reporter | None = None,
) -> Runner:
    """Find, verify and load an artifact, so that files can be run on it.

    The order is that of the shortest start: a process for decoding RAW files is started first, while the rest is
    imported; the first file is decoded in it while the network is loaded.

    Args:
        artifact: A name as :mod:`zoo.checkpoints.resolver` looks it up, or an opened artifact.
        profile: A device profile or its id.
        settings: How files are to be run.
        engine: Id of the engine to use; by default the profile's first that computes the network rightly.
        threads: Of the engine; 0 for those of the profile.
        files: Those that will be run first: the engine sets memory aside for them. Without any it sets aside what
            the largest tile needs that the memory allows.
        decode_ahead: Whether to begin decoding the first file now.
        reporter: Is given a note where a checkpoint is from.

    Raises:
        UnknownIdError: Nothing is called so.
        IntegrityError: The artifact is damaged, or no engine computes it rightly.
        PluginError: No engine can run here.
        UsageError: The engine cannot run here.
    """
    settings = settings or Settings()
    decode_ahead = decode_ahead and bool(files) and not settings.resume
    decoder = PrefetchingDecoder()
    spare: SpareProcess | None = None
    try:
        if can_fork():
            # What every child needs is there before it, and once.
            import numpy  # noqa: F401
        if decode_ahead and not _is_picture(files[0]):
            decoder.start()
        # Of what this process writes to later, the kernel makes a copy for those that were copied before, once.
        if settings.supervised or (settings.supervised is None and _is_a_folder(artifact)):
            spare = _spare_process()

        from zoo import plugins
        from zoo.checkpoints.resolver import distrust_pulled, locate_artifact
        from zoo.machine.memory import return_freed_memory
        from zoo.onnx.working_set import artifact_working_set
        from zoo.runner.budget import Footprint, usual_limit
        from zoo.runner.development import reserve_for
        from zoo.runner.loading import is_supervised, load

        started = time.perf_counter()
        return_freed_memory()
        if isinstance(profile, str):
            profile = plugins.device(profile)
        if isinstance(artifact, (str, os.PathLike)):
            artifact = locate_artifact(os.fspath(artifact), reporter=reporter)
        supervised = is_supervised(artifact, settings.supervised)
        if supervised and spare is None:
            spare = _spare_process()
        if settings.memory is None:
            settings = dataclasses.replace(settings, memory=usual_limit(profile))
        assert settings.memory is not None
        if decode_ahead and artifact.manifest.input.kind == "packed-raw":
            decoder.begin(files[0], last=len(files) == 1)
        try:
            found = artifact_working_set(artifact)
            before = Footprint(artifact.manifest, found, arena=profile.arena, supervised=supervised)
            reserve = reserve_for(before, files, settings.memory)
            profile = dataclasses.replace(profile, reserve_mb=reserve >> 20)
            most = max(settings.memory, before.loading)
            loaded = load(
                artifact, profile, engine=engine, threads=threads, memory=most, supervised=settings.supervised,
                exits=settings.exits, spare=spare,
            )  # fmt: skip
        except IntegrityError:
            distrust_pulled(artifact.path)
            raise
        need = Footprint(
            artifact.manifest, found, engine=loaded.engine, arena=profile.arena, supervised=supervised
        )
        return Runner(loaded, need, settings, decoder, reserve, time.perf_counter() - started)
    except BaseException:
        decoder.close()
        raise
    finally:
        if spare is not None:
            spare.close()


class Runner:
    """A loaded artifact with its memory plan and its decoder; a context manager. Made by :func:`open_runner`.

    Attributes:
        loaded: The artifact on its engine.
        settings: How files are run, `memory` in bytes included.
        load_seconds: What loading took, imports not included.
    """

    def __init__(
        self,
        loaded: Loaded,
        need: Footprint,
        settings: Settings,
        decoder: PrefetchingDecoder,
        reserve: int,
        load_seconds: float,
    ) -> None:
        self.loaded, self.settings, self.load_seconds = loaded, settings, load_seconds
        self._need, self._decoder, self._reserve = need, decoder, reserve
        self._closed = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that decode and compute; the runner cannot be used afterwards."""
        self._closed = True
        self._decoder.close()
        self.loaded.session.close()

    @property
    def artifact(self) -> Artifact:
        """Return the artifact that runs."""
        return self.loaded.artifact

    @property
    def spec(self) -> Manifest:
        """Return the manifest: the input and the output of the network, its precision, and where it is from."""
        return self.artifact.manifest

    def __repr__(self) -> str:
        manifest = self.artifact.manifest
        takes, gives = manifest.input, manifest.output
        sides = "x".join(map(str, takes.example)) if takes.fixed_size else "HxW"
        return (
            f"<Runner of {manifest.architecture}: {takes.kind} {takes.channels}x{sides} to {gives.kind} "
            f"{gives.channels}"
            f"{f' at {gives.scale} times the size' if gives.scale > 1 else ''}, {manifest.precision}, on "
            f"{self.loaded.engine} {self.loaded.engine_version}>"
        )

    def benchmark(self, *, side: int = 0, batch: int = 1, rounds: int = 15) -> Latency:
        """Return how long the network takes on an input of random numbers; `zoo bench` measures more.

        Args:
            side: Of a square input, in input-tensor pixels; 0 for the example's size.
            batch: Images at once.
            rounds: How often it is timed, after a warm-up.

        Raises:
            UsageError: The network does not accept such an input.
        """

        from zoo.contracts.random_inputs import random_inputs
        from zoo.runner.timing import measure_latency

        spec = self.artifact.manifest.input
        sides = (side, side) if side else spec.example
        inputs = random_inputs(spec, batch, sides)
        if not spec.parts:
            self(inputs)  # refuses what does not fit
        return measure_latency({"": self.loaded.session}, inputs, rounds=rounds)[""]

    def run(
        self,
        files: Sequence[StrPath],
        out: StrPath | None = None,
        reporter: Reporter | None = None,
    ) -> list[FileResult]:
        """Run the network on each file. A file that fails is noted in its result, and the next one is taken.

        Networks that make pictures write one for each file. For others the task says what a person looks at, such as
        classes or boxes; if a folder is given, the picture of it or all outputs are written as well.

        Args:
            files: RAW files, pictures or photographs, as the network's input says; for networks of other inputs files
                of arrays (.npz, .npy, .safetensors), see :func:`zoo.runner.array_input.read_arrays`. None are needed
                where the settings name all inputs.
            out: Folder for the pictures; that of the settings if it is not given.
            reporter: Is told of each file.

        Raises:
            UsageError: The pictures could not be written, or the memory suffices for nothing; before any work.
            OutputError: The folder cannot be written to, or the disk fills up meanwhile.
        """
        from zoo.images.writing import SUFFIXES
        from zoo.machine.memory import peak_rss_mb
        from zoo.runner.picture_targets import check_format, picture_targets
        from zoo.runner.showing import show_file, suffix_of

        reporter = reporter or SilentReporter()
        paths = [Path(file) for file in files]
        settings = self.settings if out is None else dataclasses.replace(self.settings, out=Path(out))
        self._check_open()
        if settings.inputs:
            from zoo.runner.named_inputs import files_of_run

            paths = files_of_run(self.artifact.manifest, settings.inputs, paths)
        targets: Sequence[Path | None] = [None] * len(paths)
        if self._makes_pictures:
            check_format(self.artifact.manifest.output, settings.format)
            targets = picture_targets(paths, settings, SUFFIXES[settings.format])
        elif settings.out is not None and suffix_of(self.artifact.manifest.output):
            targets = picture_targets(paths, settings, suffix_of(self.artifact.manifest.output))
        results = [FileResult(*pair) for pair in zip(paths, targets, strict=True)]
        for result in results:
            result.skipped = settings.resume and result.output is not None and result.output.exists()
        left = [result for result in results if not result.skipped]
        reporter.start("run", len(left), "files")
        development = self._development(settings) if self._makes_pictures and left else None
        for number, result in enumerate(left):
            started = time.perf_counter()
            try:
                if development is None:
                    self._check_memory(result.path)
                    show_file(self.loaded, result, settings.inputs)
                else:
                    development.write(result, [each.path for each in left[number + 1 :][:1]])
            except OutputError:
                raise
            except ZooError as error:
                result.error = error
                if len(paths) > 1:
                    reporter.note(f"{result.path}: {error}")
            except MemoryError:
                result.error = ZooError(
                    f"{result.path} does not fit in memory.", hint="Use a lower limit:  --memory 256MB"
                )
            for doubt in result.doubts:
                reporter.note(f"{result.path}: {doubt} Is the file damaged?")
            result.seconds = time.perf_counter() - started
            reporter.advance(1, peak_mb=round(peak_rss_mb() + self.loaded.session.peak_bytes / 2**20))
        reporter.finish()
        return results

    @overload
    def develop(self, file: StrPath) -> npt.NDArray[Any]: ...

    @overload
    def develop(self, file: StrPath, out: StrPath) -> FileResult: ...

    def develop(self, file: StrPath, out: StrPath | None = None) -> npt.NDArray[Any] | FileResult:
        """Turn one file into a picture, upright: an array, or the file `out`, which is replaced if it exists.

        An array holds the picture as a whole, which comes on top of the memory that the settings allow.

        Args:
            file: A RAW file or a picture, as the network's input says.
            out: The picture file to write; its suffix is that of the settings' format.

        Returns:
            (H, W, C) of uint8, or of uint16 where the settings' format is "tiff"; with `out`, what became of the file.

        Raises:
            UsageError: The network makes no pictures, the format cannot hold them, or the memory does not suffice.
            InputError: The file cannot be used.
            OutputError: `out` cannot be written.
        """
        from zoo.images.writing import SUFFIXES
        from zoo.runner.picture_targets import check_format

        self._check_open()
        if not self._makes_pictures:
            what = "output" if self._reads_files else "input"
            raise UsageError(f"The {what} of {self.artifact.path} is not an image.", hint="Use run().")
        result = FileResult(Path(file))
        if out is None:
            return self._development(self.settings).array(result)
        result.output, suffix = Path(out), SUFFIXES[self.settings.format]
        if result.output.suffix.lower() not in (suffix, suffix.replace("tiff", "tif")):
            raise UsageError(
                f"{result.output} must end in {suffix}, the format of the settings.",
                hint="Choose the format when the runner is opened: format='png' or format='tiff'.",
            )
        check_format(self.artifact.manifest.output, self.settings.format)
        self._development(self.settings).write(result)
        return result

    def __call__(
        self, *inputs: npt.NDArray[np.float32], **named: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Compute the network itself, in one piece, whatever memory that takes.

        Args:
            inputs: (N, C, H, W) float32 as the manifest's input says: packed RAW or pixels in [0, 1], not normalised;
                H and W are multiples of its `multiple_of`. Those of a network with several, in order.
            named: The inputs of a network with several by name.

        Returns:
            (N, channels, scale * H, scale * W) in [0, 1] for pictures and masks, (N, classes) for logits; float32.

        Raises:
            UsageError: The shape does not fit.
            InputError: One of several inputs is missing or unknown, or does not fit.
        """
        return self.loaded.session.run(self._packed(inputs, named))

    def outputs(
        self, *inputs: npt.NDArray[np.float32], **named: npt.NDArray[np.float32]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return all outputs by name, the main one as "output"; otherwise as a call does.

        Args:
            inputs: (N, C, H, W), or those of a network with several in order.
            named: The inputs of a network with several by name.
        """
        from zoo.artifacts.golden import all_outputs

        return all_outputs(self.loaded.session, self._packed(inputs, named))

    def _packed(
        self, inputs: Sequence[npt.NDArray[np.float32]], named: Mapping[str, npt.NDArray[np.float32]]
    ) -> npt.NDArray[np.float32]:
        """The inputs of a call as one array that fits."""
        import numpy as np

        self._check_open()
        spec = self.artifact.manifest.input
        if spec.parts:
            return spec.pack(named if named and not inputs else [*inputs, *named.values()])
        if len(inputs) + len(named) != 1:
            raise UsageError(f"{self.artifact.path} has one input, not {len(inputs) + len(named)}.")
        array = np.asarray((*inputs, *named.values())[0])
        shape = array.shape
        fits = len(shape) == 4 and shape[1] == spec.channels and min(shape) > 0
        if fits:
            fits = not (shape[2] % spec.multiple_of or shape[3] % spec.multiple_of)
            fits = fits and (not spec.fixed_size or shape[2:] == spec.example)
        if not fits:
            sides = spec.example if spec.fixed_size else ("H", "W")
            raise UsageError(
                f"The input has the shape {shape}; (N, {spec.channels}, {sides[0]}, {sides[1]}) is needed"
                + ("." if spec.fixed_size else f", H and W multiples of {spec.multiple_of}.")
            )
        return np.ascontiguousarray(array, dtype=np.float32)

    @property
    def _makes_pictures(self) -> bool:
        return self.artifact.manifest.output.bounded and self._reads_files

    @property
    def _reads_files(self) -> bool:
        """Whether the input is an image or a RAW file, not numbers that a program prepares."""
        return self.artifact.manifest.input.kind != "tensor"

    def _development(self, settings: Settings) -> Development:
        from zoo.runner.development import Development

        return Development(self.loaded, self._need, self._decoder, settings, self._reserve)

    def _check_memory(self, path: Path) -> None:
        """Refuse an image that cannot be computed within the memory; a network of such outputs computes it whole.

        Raises:
            UsageError: It does not fit; the lowest limit that suffices is named.
        """
        from zoo.images.pixels import image_size
        from zoo.runner.budget import refuse

        manifest, limit = self.artifact.manifest, self.settings.memory
        if not self._reads_files or limit is None:
            return
        classes = manifest.output.kind == "logits"
        if classes and manifest.input.kind == "packed-raw":
            return
        width, height = image_size(path)
        if classes:
            needed = self._need.base + _DECODED * width * height
            if needed > limit:
                raise refuse(needed, f"{path} ({width}x{height} pixels)")
            return
        multiple = manifest.input.multiple_of
        frame = self._need.frame(height + -height % multiple, width + -width % multiple)
        if self._need.whole(frame, self._reserve) > limit:
            raise refuse(
                self._need.least_whole(frame), f"{path} ({width}x{height} pixels, computed in one piece)"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("The runner was closed.", hint="Open it again.")


def _spare_process() -> SpareProcess:
    """A process for the engine; what both need is imported before it is a copy of this one."""
    from zoo.engines.engine_process import SpareProcess
    from zoo.runner import picture_rounding  # noqa: F401

    return SpareProcess()


def _is_a_folder(artifact: Artifact | StrPath) -> bool:
    """Whether an artifact is one that no registry pins, as far as a look tells."""
    from zoo.artifacts.manifest import MANIFEST_NAME

    return isinstance(artifact, (str, os.PathLike)) and os.path.lexists(os.path.join(artifact, MANIFEST_NAME))


def _is_picture(file: Path) -> bool:
    from zoo.images.pixels import SUFFIXES

    return file.suffix.lower() in SUFFIXES
