"""C-UNet and C-UNet++: U-Nets without skips for satellites.

Paper: Bahl, Daniel, Moretti and Lafarge, "Low-power neural networks for semantic segmentation of satellite
images", ICCV Workshops 2019 (hal-02277061).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.contracts import Architecture, InputSpec, OutputSpec

if TYPE_CHECKING:
    from torch import nn


class CUNetArchitecture(Architecture):
    """51,113 parameters."""

    id = "c-unet"
    summary = "C-UNet: an RGB image to a mask, 8 to 32 channels, no skips"
    paper = "Bahl et al., Low-power neural networks for semantic segmentation of satellite images, ICCVW 2019"
    task = "segmentation"
    input = InputSpec(kind="rgb", channels=3, multiple_of=8, example=(256, 256), halo=40)
    output = OutputSpec(kind="mask", channels=1, scale=1)

    def build(self) -> nn.Module:
        from zoo.architectures.c_unet_module import CUNet

        return CUNet(self.input.channels)

    def stages(self) -> Sequence[Mapping[str, Any]]:
        return tuple({"down": f"down{n}", "up": f"up{n}", "join": f"join{n}"} for n in (1, 2, 3))


class CUNetPlusArchitecture(CUNetArchitecture):
    """C-UNet++, 8,433 parameters: one convolution per stage, separable except the first and the last."""

    id = "c-unet-plus"
    summary = "C-UNet++: c-unet with one convolution per stage, 8,433 parameters"
    input = InputSpec(kind="rgb", channels=3, multiple_of=8, example=(256, 256), halo=16)

    def build(self) -> nn.Module:
        from zoo.architectures.c_unet_module import CUNet

        return CUNet(self.input.channels, down=("c", "s", "s"), up=("c", "", ""))

    def stages(self) -> Sequence[Mapping[str, Any]]:
        return (
            {"down": "down1", "up": "up1", "join": "join1"},
            {"down": "down2", "up": "up2"},
            {"down": "down3", "up": "up3"},
        )
