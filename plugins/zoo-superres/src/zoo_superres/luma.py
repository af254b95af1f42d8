"""Luma and chroma of an image: networks compute the luma, the chroma is only resized."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Weights of red, green and blue in the luma Y of ITU-R BT.601.
LUMA = (0.299, 0.587, 0.114)


def luma_of(image: Tensor) -> Tensor:
    """Return the luma of RGB, (N, 3, H, W) to (N, 1, H, W), in the range of the image."""
    red, green, blue = image[:, :1], image[:, 1:2], image[:, 2:]
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


class LumaNetwork(nn.Module):
    """Enlarges the luma of an image with a network, and its chroma bicubically.

    (N, 3, H, W) -> (N, 3, scale*H, scale*W). Cb and Cr are multiples of B - Y and R - Y, and resizing is linear: to
    resize them is to resize the difference between the image and its luma.

    Args:
        net: From luma to luma, (N, 1, H, W) -> (N, 1, scale*H, scale*W).
        scale: The factor.
    """

    def __init__(self, net: nn.Module, scale: int) -> None:
        super().__init__()
        self.net = net
        self.resize = nn.Upsample(scale_factor=scale, mode="bicubic")

    def forward(self, x: Tensor) -> Tensor:
        luma = luma_of(x)
        chroma: Tensor = self.resize(x - luma)
        return chroma + self.net(luma)


def luma_difference(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute difference of the luma of two images, (N, 1 or 3, H, W), as a scalar."""
    if outputs.shape[1] == 3:
        outputs, targets = luma_of(outputs), luma_of(targets)
    return torch.nn.functional.l1_loss(outputs, targets)
