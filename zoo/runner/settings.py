"""What the user chooses about a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zoo.runner.exit_limits import ExitLimits

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.images.writing import Format


@dataclass(frozen=True)
class Settings:
    """How to run.

    Attributes:
        out: Folder for pictures; None if none are written.
        format: Of the pictures: "png" with 8 bits a sample, or "tiff" with 16.
        ratio: Amplification of RAW files; None chooses it for each file.
        tile: Longest side of what the network sees at once, in input pixels, halo included; None chooses.
        overwrite: Replace pictures that exist.
        resume: Leave pictures that exist, and do the others.
        memory: Bytes that this process and those that decode and compute may hold together; None goes by the device.
        supervised: Whether the engine computes in a process of its own; None for yes unless a registry pins the
            artifact.
        exits: What is asked of a network with early exits.
        inputs: What stands for inputs of a network that has several, by name: a file, or numbers separated by commas.
    """

    out: Path | None = None
    format: Format = "png"
    ratio: float | None = None
    tile: int | None = None
    overwrite: bool = False
    resume: bool = False
    memory: int | None = None
    supervised: bool | None = None
    exits: ExitLimits = field(default_factory=ExitLimits)
    inputs: Mapping[str, str] = field(default_factory=dict)
