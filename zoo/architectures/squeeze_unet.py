"""Squeeze U-Net: a U-Net of fire modules.

Paper: Beheshti and Johnsson, "Squeeze U-Net: A Memory and Energy Efficient Image Segmentation Network", CVPR
Workshops 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.contracts import Architecture, InputSpec, OutputSpec

if TYPE_CHECKING:
    from torch import nn


class SqueezeUNetArchitecture(Architecture):
    """2,613,952 weights without the classifier (the last 1 x 1 convolution) and the biases."""

    id = "squeeze-unet"
    summary = "Squeeze U-Net: an RGB image to a mask, fire modules instead of convolutions"
    paper = "Beheshti and Johnsson, Squeeze U-Net, CVPR Workshops 2020"
    task = "segmentation"
    input = InputSpec(kind="rgb", channels=3, multiple_of=16, example=(256, 256), halo=96)
    output = OutputSpec(kind="mask", channels=1, scale=1)

    def build(self) -> nn.Module:
        from zoo.architectures.squeeze_unet_module import SqueezeUNet

        return SqueezeUNet(self.input.channels, self.output.channels)

    def stages(self) -> Sequence[Mapping[str, Any]]:
        return (
            *({"down": f"down{n}", "up": f"up{n}", "join": f"join{n}"} for n in range(1, 5)),
            {"down": "bottom"},
        )
