"""Running from Python, as :mod:`zoo` offers it. Needs no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.runner.exit_limits import ExitLimits
from zoo.runner.runner import Runner, StrPath, open_runner
from zoo.runner.settings import Settings

if TYPE_CHECKING:
    from zoo.artifacts import Artifact
    from zoo.contracts import DeviceProfile, Reporter
    from zoo.images.writing import Format
    from zoo.runner.file_result import FileResult

#: What repositories of the Hub begin with.
_HUB = "hf:"


def load(
    artifact: Artifact | StrPath,
    *,
    device: DeviceProfile | str = "host",
    engine: str | None = None,
    threads: int = 0,
    memory: int | str | None = None,
    ratio: float | None = None,
    format: Format = "png",  # noqa: A002
    confidence: float | None = None,
    deadline: float | None = None,
    reporter: Reporter | None = None,
) -> Runner:
    """Load an artifact for running; close the runner, or use it as a context manager.

    Args:
        artifact: A folder, the id of a checkpoint that was pulled or is shipped, an opened artifact, or
            hf:NAMESPACE/NAME@COMMIT, a repository of the Hub that is pulled unless it is in the cache.
        device: A device profile or its id: which engines, how much memory.
        engine: Id of the engine to use; by default the device's first that computes the network rightly.
        threads: Of the engine; 0 for those of the device.
        memory: Bytes that may be held, also as in "512MB"; None goes by the device.
        ratio: Amplification of RAW files; None chooses it for each file.
        format: "png" for pictures with 8 bits a sample, "tiff" for 16.
        confidence: Of a network with early exits, the probability of the best class at which an image leaves, at least
            0.5; None for the thresholds of the file.
        deadline: Milliseconds that an image may take in such a network; None for any number.
        reporter: Is given a note where a checkpoint is from.

    Raises:
        ZooError: As :func:`zoo.runner.runner.open_runner` says.
    """
    limits = ExitLimits(confidence, deadline)
    settings = Settings(format=format, ratio=ratio, memory=_bytes(memory), exits=limits)
    if isinstance(artifact, str) and artifact.startswith(_HUB):
        from zoo.download.puller import pull

        try:
            artifact = pull(artifact.removeprefix(_HUB), reporter=reporter).path
        except ZooError as error:
            pulling = re.fullmatch(r"(.*:  )zoo pull (\S+)", error.hint or "", re.DOTALL)
            if pulling is not None:
                error.hint = f'{pulling[1]}zoo.load("{_HUB}{pulling[2]}")'
            raise
    return open_runner(artifact, device, settings, engine=engine, threads=threads, reporter=reporter)


def run(
    artifact: Artifact | StrPath,
    files: StrPath | Sequence[StrPath] = (),
    out: StrPath | None = None,
    *,
    inputs: Mapping[str, str] | None = None,
    device: DeviceProfile | str = "host",
    engine: str | None = None,
    threads: int = 0,
    memory: int | str | None = None,
    ratio: float | None = None,
    format: Format = "png",  # noqa: A002
    tile: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    confidence: float | None = None,
    deadline: float | None = None,
    reporter: Reporter | None = None,
) -> list[FileResult]:
    """Run an artifact on files, as `zoo run` does.

    Args:
        artifact: A folder, the id of a checkpoint that was pulled or is shipped, or an opened artifact.
        files: One file or several: RAW files, pictures or photographs, as the network's input says.
        inputs: Of a network with several inputs, those that the files do not hold, by name: a file of an image or of
            arrays, or numbers, as in "0.5,3". Files are needed for the others only.
        out: Folder for the pictures; classifiers need none.
        device: A device profile or its id: which engines, how much memory.
        engine: Id of the engine to use; by default the device's first that computes the network rightly.
        threads: Of the engine; 0 for those of the device.
        memory: Bytes that may be held, also as in "512MB"; None goes by the device.
        ratio: Amplification of RAW files; None chooses it for each file.
        format: "png" for pictures with 8 bits a sample, "tiff" for 16.
        tile: Longest side of a tile in input pixels, halo included; None goes by the memory.
        overwrite: Replace pictures that exist.
        resume: Leave pictures that exist, and do the others.
        confidence: Of a network with early exits, the probability of the best class at which an image leaves, at least
            0.5; None for the thresholds of the file.
        deadline: Milliseconds that an image may take in such a network; None for any number.
        reporter: Is told of each file.

    Returns:
        What became of each file; a file that could not be used has its `error` set, and the others were done.

    Raises:
        ZooError: As :func:`zoo.runner.runner.open_runner` and :meth:`Runner.run` say.
    """
    paths = [Path(files)] if isinstance(files, (str, os.PathLike)) else [Path(file) for file in files]
    settings = Settings(
        None if out is None else Path(out), format, ratio, tile, overwrite, resume, _bytes(memory),
        exits=ExitLimits(confidence, deadline), inputs=dict(inputs or {}),
    )  # fmt: skip
    with open_runner(
        artifact, device, settings, engine=engine, threads=threads, files=paths, reporter=reporter
    ) as runner:
        return runner.run(paths, reporter=reporter)


def _bytes(memory: int | str | None) -> int | None:
    if not isinstance(memory, str):
        return memory
    from zoo.machine.memory import parse_size

    return parse_size(memory)
