"""The residual network for pictures of 32 x 32 pixels.

Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.contracts import Architecture, InputSpec, OutputSpec

if TYPE_CHECKING:
    from torch import nn


class CifarResNetArchitecture(Architecture):
    """269,722 parameters; 40.6 MMACs for a picture of 32 x 32."""

    id = "resnet20"
    summary = "ResNet-20 for CIFAR-10: a picture of 32x32 to one of ten classes"
    paper = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016"
    task = "classification"
    input = InputSpec(
        kind="rgb",
        channels=3,
        multiple_of=4,
        example=(32, 32),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    output = OutputSpec(kind="logits", channels=10)

    def build(self) -> nn.Module:
        from zoo.architectures.cifar_resnet_module import CifarResNet

        return CifarResNet(self.output.channels)

    def stages(self) -> Sequence[Mapping[str, Any]]:
        return tuple({"down": f"layer{number}"} for number in (1, 2, 3))
