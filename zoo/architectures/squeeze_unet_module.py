"""Squeeze U-Net as an `nn.Module` (Beheshti and Johnsson, 2020)."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

from zoo.modules.fire import FireModule, TransposedFireModule

#: squeeze and expand channels of the fires of each stage below the first; a fire gives twice the expand channels
_FIRES = ((32, 64), (48, 128), (64, 256), (80, 512))
#: those of the transposed fires that lead back up, from the lowest
_TRANSPOSED = ((80, 256), (64, 128), (48, 64))


def _convs(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, width, 3, padding=1),
            act1=nn.ReLU(),
            conv2=nn.Conv2d(width, width, 3, padding=1),
            act2=nn.ReLU(),
        )
    )


def _fires(in_channels: int, squeeze: int, expand: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            fire1=FireModule(in_channels, squeeze, expand, activation=nn.ReLU()),
            act1=nn.ReLU(),
            fire2=FireModule(2 * expand, squeeze, expand, activation=nn.ReLU()),
            act2=nn.ReLU(),
        )
    )


class SqueezeUNet(nn.Module):
    """A picture to the probability of each class.

    (N, in_channels, H, W) -> (N, classes, H, W) in [0, 1]; H and W must be multiples of 16. Stages of 64, 128, 256,
    512 and 1024 channels, all but the first of fire modules, with max-pooling; up by transposed fire modules, and
    by a transposed convolution at the end; skips are concatenated.
    """

    def __init__(self, in_channels: int = 3, classes: int = 1) -> None:
        super().__init__()
        self.down1 = _convs(in_channels, 64)
        self.down2 = _fires(64, *_FIRES[0])
        self.down3 = _fires(128, *_FIRES[1])
        self.down4 = _fires(256, *_FIRES[2])
        self.bottom = _fires(512, *_FIRES[3])
        self.pool = nn.MaxPool2d(2)
        self.up4 = TransposedFireModule(1024, *_TRANSPOSED[0], activation=nn.ReLU())
        self.join4 = _fires(1024, *_FIRES[2])
        self.up3 = TransposedFireModule(512, *_TRANSPOSED[1], activation=nn.ReLU())
        self.join3 = _fires(512, *_FIRES[1])
        self.up2 = TransposedFireModule(256, *_TRANSPOSED[2], activation=nn.ReLU())
        self.join2 = _fires(256, *_FIRES[0])
        self.up1 = nn.ConvTranspose2d(128, 64, 2, stride=2)
        self.join1 = _convs(128, 64)
        self.act = nn.ReLU()
        self.head = nn.Conv2d(64, classes, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        skip1 = self.down1(x)
        skip2 = self.down2(self.pool(skip1))
        skip3 = self.down3(self.pool(skip2))
        skip4 = self.down4(self.pool(skip3))
        x = self.bottom(self.pool(skip4))
        x = self.join4(torch.cat([self.act(self.up4(x)), skip4], dim=1))
        x = self.join3(torch.cat([self.act(self.up3(x)), skip3], dim=1))
        x = self.join2(torch.cat([self.act(self.up2(x)), skip2], dim=1))
        x = self.join1(torch.cat([self.act(self.up1(x)), skip1], dim=1))
        return cast(Tensor, self.sigmoid(self.head(x)))
