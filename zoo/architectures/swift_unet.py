"""`swift-unet`: for RAW files of any exposure, at a fraction of `unet`'s arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Architecture, InputSpec, OutputSpec

if TYPE_CHECKING:
    from torch import nn


class SwiftUNetArchitecture(Architecture):
    """1,773,685 parameters; it computes at a quarter of the mosaic's resolution, with ReLU and additive skips.

    It is told the noise and works in white-balanced camera colours; a linear demosaic is added to what it computes.
    """

    id = "swift-unet"
    summary = "one Bayer RAW file of any exposure to a picture in the camera's own colours; fast on CPUs"
    task = "raw-to-rgb"
    input = InputSpec(
        kind="packed-raw",
        channels=8,
        multiple_of=16,
        example=(256, 256),
        mosaic="bayer",
        white_balance=True,
        halo=160,
        noise_planes=4,
    )
    output = OutputSpec(kind="rgb", channels=3, scale=2, colors="camera")
    #: channels of the four levels
    widths: ClassVar[tuple[int, int, int, int]] = (48, 80, 128, 192)

    def build(self) -> nn.Module:
        from zoo.architectures.swift_unet_module import SwiftUNet

        return SwiftUNet(self.widths)


class TinyUNetArchitecture(SwiftUNetArchitecture):
    """97,085 parameters: `swift-unet` with 16 to 40 channels, under 150 kB in int8."""

    id = "tiny-unet"
    summary = "swift-unet with 16 to 40 channels, for boards with little of everything"
    widths = (16, 20, 28, 40)
