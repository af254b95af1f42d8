"""Where the pictures of a run are written, checked before any work."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UsageError
from zoo.images.writing import Format, needs_whole
from zoo.storage.atomic import writing

if TYPE_CHECKING:
    from zoo.contracts import OutputSpec
    from zoo.runner.settings import Settings


def picture_targets(files: Sequence[Path], settings: Settings, suffix: str) -> list[Path]:
    """Return where the picture of each file goes, after checking that all of them can be written there.

    The output folder is made.

    Args:
        files: The files of a run.
        settings: With the folder.
        suffix: Of what is written.

    Raises:
        UsageError: No folder is given, a picture exists (unless `overwrite` or `resume` is set), or two inputs have
            one output.
        OutputError: The folder cannot be written to.
    """
    if settings.out is None:
        raise UsageError("A folder for the images is required.", hint="Name one:  -o DIR")
    targets = [settings.out / (file.stem + suffix) for file in files]
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
            hint="Replace them with --overwrite, skip them with --resume, or name another folder with -o.",
        )
    with writing(settings.out):
        settings.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.out):
            pass
    return targets


def check_format(output: OutputSpec, format: Format) -> None:  # noqa: A002
    """Check that a picture of the network can be written in the format.

    Raises:
        UsageError: It cannot.
    """
    if format == "png" and needs_whole(output.channels):
        raise UsageError(
            f"This network produces {output.channels} masks, which PNG cannot hold.", hint="Use --format tiff"
        )
