"""A residual encoder of five resolutions, a BiFPN that exchanges between them, and a pixel shuffle.

The fusion is that of Tan, Pang and Le, "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from zoo.modules.bifpn import BiFpnBlock, WeightedMean

#: Channels of the encoder's stages, each at half the resolution of the one before; the first is at the input's own.
WIDTHS = (24, 32, 48, 64, 96)
CHANNELS, LAYERS = 32, 2


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a link around them. (N, in, H, W) -> (N, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        changed = stride > 1 or in_channels != out_channels
        self.link = nn.Conv2d(in_channels, out_channels, 1, stride=stride) if changed else nn.Identity()
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act2(self.link(x) + self.conv2(self.act1(self.conv1(x))))
        return y


class Fusion(WeightedMean):
    """A weighted mean of maps of one size, then a depthwise-separable convolution. (N, C, H, W) each -> the same."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__(inputs)
        self.act = nn.ReLU()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, *maps: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(self.act(super().forward(*maps))))
        return y


class BiFpnSr(nn.Module):
    """RGB to larger RGB: (N, 3, H, W) -> (N, 3, scale*H, scale*W); H and W must be multiples of 16.

    The maps of all resolutions are enlarged to that of the input and added up before the pixel shuffle. What the
    network computes is added to the bicubically enlarged image.

    Args:
        scale: The factor.
        widths: Channels of the encoder's stages; each after the first halves the resolution.
        layers: BiFPN layers.
    """

    def __init__(self, scale: int, widths: Sequence[int] = WIDTHS, layers: int = LAYERS) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        before = (widths[0], *widths[:-1])
        self.encoder = nn.ModuleList(
            ResidualBlock(narrow, wide, 1 if level == 0 else 2)
            for level, (narrow, wide) in enumerate(zip(before, widths, strict=True))
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, CHANNELS, 1) for width in widths)
        self.fpn = nn.ModuleList(
            BiFpnBlock(len(widths), partial(Fusion, channels=CHANNELS)) for _ in range(layers)
        )
        self.enlarge = nn.ModuleList(
            nn.Upsample(scale_factor=2**level, mode="nearest") for level in range(1, len(widths))
        )
        self.act = nn.ReLU()
        self.tail = nn.Conv2d(CHANNELS, 3 * scale * scale, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        self.resize = nn.Upsample(scale_factor=scale, mode="bicubic")
        with torch.no_grad():
            self.tail.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y, maps = self.stem(x), []
        for block, lateral in zip(self.encoder, self.lateral, strict=True):
            y = block(y)
            maps.append(lateral(y))
        for layer in self.fpn:
            maps = layer(maps)
        total = maps[0]
        for enlarge, each in zip(self.enlarge, maps[1:], strict=True):
            total = total + enlarge(each)
        enlarged: Tensor = self.resize(x) + self.shuffle(self.tail(self.act(total)))
        return enlarged
