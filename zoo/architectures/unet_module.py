"""The See-in-the-Dark U-Net as an `nn.Module` (Chen et al., "Learning to See in the Dark", CVPR 2018)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from zoo.modules.separable import SeparableConv2d

WIDTHS = (32, 64, 128, 256, 512)


def _conv3x3(in_channels: int, out_channels: int, separable: bool) -> nn.Module:
    if separable:
        return SeparableConv2d(in_channels, out_channels, 3, padding=1)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class DoubleConv(nn.Module):
    """Two 3 x 3 convolutions, each followed by LeakyReLU(0.2). (N, in, H, W) -> (N, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, separable: tuple[bool, bool]) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, out_channels, separable[0])
        self.act1 = nn.LeakyReLU(0.2)
        self.conv2 = _conv3x3(out_channels, out_channels, separable[1])
        self.act2 = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act2(self.conv2(self.act1(self.conv1(x)))))


class UNet(nn.Module):
    """Packed sensor data to sRGB.

    (N, in_channels, H, W) -> (N, 3, scale*H, scale*W); H and W must be multiples of 16. The output is not clipped.
    `separable` says which of each stage's two convolutions are depthwise-separable, `widths` the channels of the
    five stages.
    """

    def __init__(
        self,
        in_channels: int = 4,
        scale: int = 2,
        separable: tuple[bool, bool] = (False, False),
        widths: tuple[int, int, int, int, int] = WIDTHS,
    ) -> None:
        super().__init__()
        w = widths
        self.down1 = DoubleConv(in_channels, w[0], separable)
        self.down2 = DoubleConv(w[0], w[1], separable)
        self.down3 = DoubleConv(w[1], w[2], separable)
        self.down4 = DoubleConv(w[2], w[3], separable)
        self.bottom = DoubleConv(w[3], w[4], separable)
        self.pool = nn.MaxPool2d(2)
        self.up4 = nn.ConvTranspose2d(w[4], w[3], 2, stride=2)
        self.join4 = DoubleConv(2 * w[3], w[3], separable)
        self.up3 = nn.ConvTranspose2d(w[3], w[2], 2, stride=2)
        self.join3 = DoubleConv(2 * w[2], w[2], separable)
        self.up2 = nn.ConvTranspose2d(w[2], w[1], 2, stride=2)
        self.join2 = DoubleConv(2 * w[1], w[1], separable)
        self.up1 = nn.ConvTranspose2d(w[1], w[0], 2, stride=2)
        self.join1 = DoubleConv(2 * w[0], w[0], separable)
        self.head = nn.Conv2d(w[0], 3 * scale * scale, 1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        skip1 = self.down1(x)
        skip2 = self.down2(self.pool(skip1))
        skip3 = self.down3(self.pool(skip2))
        skip4 = self.down4(self.pool(skip3))
        x = self.bottom(self.pool(skip4))
        x = self.join4(torch.cat([self.up4(x), skip4], dim=1))
        x = self.join3(torch.cat([self.up3(x), skip3], dim=1))
        x = self.join2(torch.cat([self.up2(x), skip2], dim=1))
        x = self.join1(torch.cat([self.up1(x), skip1], dim=1))
        return cast(Tensor, self.shuffle(self.head(x)))
