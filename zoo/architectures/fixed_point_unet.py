"""The U-Net that fixed-point quantization was published with.

Paper: AskariHemmat et al., "U-Net Fixed-Point Quantization for Medical Image Segmentation", MICCAI Workshops 2019
(arXiv:1908.01073).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.contracts import Architecture, InputSpec, OutputSpec

if TYPE_CHECKING:
    from torch import nn


class FixedPointUNetArchitecture(Architecture):
    """4,837,249 parameters; bilinear up-sampling, batch norms after the activations."""

    id = "fixed-point-unet"
    summary = "the fixed-point paper's U-Net: a gray image to a mask"
    paper = "AskariHemmat et al., U-Net Fixed-Point Quantization, MICCAI Workshops 2019, arXiv:1908.01073"
    task = "segmentation"
    input = InputSpec(kind="gray", channels=1, multiple_of=8, example=(256, 256), halo=56)
    output = OutputSpec(kind="mask", channels=1, scale=1)

    def build(self) -> nn.Module:
        from zoo.architectures.fixed_point_unet_module import FixedPointUNet

        return FixedPointUNet(self.input.channels)

    def stages(self) -> Sequence[Mapping[str, Any]]:
        return (
            *({"down": f"down{n}", "up": f"up{n}", "join": f"join{n}"} for n in range(1, 4)),
            {"down": "bottom"},
        )
