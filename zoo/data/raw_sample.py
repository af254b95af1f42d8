"""Samples of RAW files, in the colours that the network answers in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.contracts import Sample
from zoo.raw.develop import camera_target, matrix_of

if TYPE_CHECKING:
    from zoo.contracts import Architecture, FloatArray
    from zoo.raw.decode import RawFrame


def raw_sample(
    name: str,
    scene: str,
    inputs: FloatArray,
    picture: FloatArray,
    frame: RawFrame,
    architecture: Architecture,
) -> Sample:
    """Return the sample of a RAW file.

    Args:
        name: Name for reports.
        scene: What splits keep together.
        inputs: The packed frame.
        picture: The sRGB picture wanted, (3, H, W) in [0, 1].
        frame: The file, for its colours.
        architecture: The network that the sample is for.
    """
    if architecture.output.colors != "camera":
        return Sample(name, scene, inputs, picture)
    to_srgb = matrix_of(frame)
    return Sample(name, scene, inputs, camera_target(picture, to_srgb), to_srgb)
