"""The U-Net of the fixed-point paper as an `nn.Module` (AskariHemmat et al., arXiv:1908.01073)."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 256)


class FixedPointUNetBlock(nn.Sequential):
    """Twice: 3 x 3 convolution, ReLU, batch norm. (N, in, H, W) -> (N, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, channels in ((1, in_channels), (2, out_channels)):
            layers[f"conv{number}"] = nn.Conv2d(channels, out_channels, 3, padding=1)
            layers[f"act{number}"] = nn.ReLU()
            layers[f"norm{number}"] = nn.BatchNorm2d(out_channels)
        super().__init__(layers)


class FixedPointUNet(nn.Module):
    """A gray picture to the probability of the foreground.

    (N, in_channels, H, W) -> (N, 1, H, W) in [0, 1]; H and W must be multiples of 8. Three poolings, bilinear
    up-sampling, skips concatenated behind the up-sampled channels, a 3 x 3 convolution and a sigmoid at the end.
    """

    def __init__(self, in_channels: int = 1, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        super().__init__()
        first, second, third, bottom = widths
        self.down1 = FixedPointUNetBlock(in_channels, first)
        self.down2 = FixedPointUNetBlock(first, second)
        self.down3 = FixedPointUNetBlock(second, third)
        self.pool = nn.MaxPool2d(2)
        self.bottom = FixedPointUNetBlock(third, bottom)
        self.up3 = nn.Upsample(scale_factor=2, mode="bilinear")
        self.join3 = FixedPointUNetBlock(bottom + third, third)
        self.up2 = nn.Upsample(scale_factor=2, mode="bilinear")
        self.join2 = FixedPointUNetBlock(third + second, second)
        self.up1 = nn.Upsample(scale_factor=2, mode="bilinear")
        self.join1 = FixedPointUNetBlock(second + first, first)
        self.head = nn.Conv2d(first, 1, 3, padding=1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        skip1 = self.down1(x)
        skip2 = self.down2(self.pool(skip1))
        skip3 = self.down3(self.pool(skip2))
        x = self.bottom(self.pool(skip3))
        x = self.join3(torch.cat([self.up3(x), skip3], dim=1))
        x = self.join2(torch.cat([self.up2(x), skip2], dim=1))
        x = self.join1(torch.cat([self.up1(x), skip1], dim=1))
        return cast(Tensor, self.sigmoid(self.head(x)))
