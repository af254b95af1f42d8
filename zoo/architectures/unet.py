"""The See-in-the-Dark U-Net and its depthwise-separable forms.

Paper: Chen, Chen, Xu and Koltun, "Learning to See in the Dark", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.contracts import Architecture, InputSpec, OutputSpec

if TYPE_CHECKING:
    from torch import nn

_PAPER = "Chen et al., Learning to See in the Dark, CVPR 2018"


class UNetArchitecture(Architecture):
    """7,760,748 parameters; 12.113 GMACs for a 512 x 512 Bayer RAW."""

    id = "unet"
    summary = "See-in-the-Dark U-Net: one dark Bayer RAW file to a bright sRGB image"
    paper = _PAPER
    task = "raw-to-rgb"
    input = InputSpec(
        kind="packed-raw",
        channels=4,
        multiple_of=16,
        example=(256, 256),
        mosaic="bayer",
        white_balance=True,
        halo=96,
    )
    output = OutputSpec(kind="rgb", channels=3, scale=2)
    #: which of each stage's two 3 x 3 convolutions are depthwise-separable
    separable: ClassVar[tuple[bool, bool]] = (False, False)

    def build(self) -> nn.Module:
        from zoo.architectures.unet_module import UNet

        return UNet(self.input.channels, self.output.scale, self.separable)

    def stages(self) -> Sequence[Mapping[str, Any]]:
        return (
            {"down": "down1", "up": "up1", "join": "join1"},
            {"down": "down2", "up": "up2", "join": "join2"},
            {"down": "down3", "up": "up3", "join": "join3"},
            {"down": "down4", "up": "up4", "join": "join4"},
            {"down": "bottom"},
        )


class LightUNetArchitecture(UNetArchitecture):
    """`unet` after `depthwise(which=second)`: 4,285,676 parameters."""

    id = "light-unet"
    summary = "unet with the second 3x3 convolution of every stage depthwise-separable"
    separable = (False, True)


class LighterUNetArchitecture(UNetArchitecture):
    """`unet` after `depthwise(which=all)`: 1,513,812 parameters, 1.999 GMACs for a 512 x 512 Bayer RAW."""

    id = "lighter-unet"
    summary = "unet with all eighteen 3x3 convolutions depthwise-separable"
    separable = (True, True)


class XTransUNetArchitecture(UNetArchitecture):
    """The Fuji X-Trans variant: 9 channels at a third of the size in, shuffle by 3 out; 7,762,683 parameters."""

    id = "unet-xtrans"
    summary = "See-in-the-Dark U-Net for Fuji X-Trans sensors"
    input = InputSpec(
        kind="packed-raw",
        channels=9,
        multiple_of=16,
        example=(176, 176),
        mosaic="xtrans",
        white_balance=True,
        halo=96,
    )
    output = OutputSpec(kind="rgb", channels=3, scale=3)
