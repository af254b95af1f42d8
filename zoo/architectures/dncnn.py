"""The denoiser that predicts the noise.

Paper: Zhang, Zuo, Chen, Meng and Zhang, "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image
Denoising", IEEE Transactions on Image Processing, 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.contracts import Architecture, InputSpec, OutputSpec

if TYPE_CHECKING:
    from torch import nn


class DnCnnArchitecture(Architecture):
    """558,403 parameters: 17 layers of 64 channels; batch norms in all but the first and the last."""

    id = "dncnn"
    summary = "DnCNN: a noisy picture to a clean one"
    paper = "Zhang et al., Beyond a Gaussian Denoiser, IEEE TIP 2017"
    task = "image-to-image"
    input = InputSpec(kind="rgb", channels=3, example=(128, 128), halo=17)
    output = OutputSpec(kind="rgb", channels=3, scale=1)

    def build(self) -> nn.Module:
        from zoo.architectures.dncnn_module import DnCnn

        return DnCnn(self.input.channels)
