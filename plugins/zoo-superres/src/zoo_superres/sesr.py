"""SESR: a network of collapsible linear blocks, trained wide and run narrow.

Bhardwaj et al., "Collapsible Linear Blocks for Super-Efficient Super Resolution", MLSys 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LinearBlock(nn.Module):
    """A k x k convolution to many channels and a 1 x 1 convolution back; together they are one convolution.

    (N, in, H, W) -> (N, out, H, W). With equal channels the input is added. In training the two kernels are multiplied
    before they meet the image, which computes the same at the price of the narrow convolution. In eval mode both are
    called, so that whoever traces the network sees them.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        kernel: Side of the kernel, odd.
        expansion: Channels between the two convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(in_channels, expansion, kernel, padding=kernel // 2, bias=False)
        self.project = nn.Conv2d(expansion, out_channels, 1, bias=False)
        self.residual = in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            weight = torch.einsum("om,mikl->oikl", self.project.weight[:, :, 0, 0], self.expand.weight)
            y = F.conv2d(x, weight, padding=self.expand.padding)
        else:
            y = self.project(self.expand(x))
        return x + y if self.residual else y


class Sesr(nn.Module):
    """Luma to luma of `scale` times the side: (N, 1, H, W) -> (N, 1, scale*H, scale*W).

    A 5 x 5 block to `width` channels; `blocks` 3 x 3 blocks, each followed by a PReLU; a link around these; a 5 x 5
    block to a channel for each new pixel, to which the input is added; and the pixel shuffle.
    """

    def __init__(self, blocks: int, width: int, expansion: int, scale: int) -> None:
        super().__init__()
        self.head = LinearBlock(1, width, 5, expansion)
        self.act = nn.PReLU(width)
        self.body = nn.Sequential(
            *(nn.Sequential(LinearBlock(width, width, 3, expansion), nn.PReLU(width)) for _ in range(blocks))
        )
        self.tail = LinearBlock(width, scale * scale, 5, expansion)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        first = self.act(self.head(x))
        enlarged: Tensor = self.shuffle(self.tail(first + self.body(first)) + x)
        return enlarged
