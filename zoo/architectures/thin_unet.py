"""Thin U-Nets: the same few channels in every layer, down to 43,242 parameters.

Paper: Vaze, Xie and Namburete, "Low-Memory CNNs Enabling Real-Time Ultrasound Segmentation Towards Mobile
Deployment", IEEE Journal of Biomedical and Health Informatics, 2020. Their counts, which are repeated here,
include the running statistics of the batch norms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.contracts import Architecture, InputSpec, OutputSpec

if TYPE_CHECKING:
    from torch import nn


class ThinUNetArchitecture(Architecture):
    """288,513 numbers: 32 channels in every layer, six stages down and six up."""

    id = "thin-unet"
    summary = "Thin U-Net: a gray image to a mask, 32 channels in every layer"
    paper = "Vaze et al., Low-Memory CNNs Enabling Real-Time Ultrasound Segmentation, IEEE JBHI 2020"
    task = "segmentation"
    input = InputSpec(kind="gray", channels=1, multiple_of=64, example=(256, 256), halo=384)
    output = OutputSpec(kind="mask", channels=1, scale=1)
    #: whether every 3 x 3 convolution is depthwise-separable, and how many the deepest block has
    separable: ClassVar[bool] = False
    bottom_convs: ClassVar[int] = 2

    def build(self) -> nn.Module:
        from zoo.architectures.thin_unet_module import ThinUNet

        return ThinUNet(self.input.channels, separable=self.separable, bottom_convs=self.bottom_convs)

    def stages(self) -> Sequence[Mapping[str, Any]]:
        return (
            *({"down": f"down{n}", "up": f"up{n}", "join": f"join{n}"} for n in range(1, 7)),
            {"down": "bottom"},
        )


class SeparableThinUNetArchitecture(ThinUNetArchitecture):
    """`thin-unet` after `depthwise(bias=pointwise)`: 43,242 numbers."""

    id = "thin-unet-separable"
    summary = "thin-unet with every 3x3 convolution depthwise-separable"
    separable = True


class StudentThinUNetArchitecture(SeparableThinUNetArchitecture):
    """`thin-unet-separable` with a third convolution in the deepest block: 44,586 numbers."""

    id = "thin-unet-student"
    summary = "thin-unet-separable with one more convolution at the bottom, to be trained by distillation"
    input = InputSpec(kind="gray", channels=1, multiple_of=64, example=(256, 256), halo=448)
    bottom_convs = 3
