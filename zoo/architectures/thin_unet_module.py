"""The Thin U-Net and its separable and student forms as an `nn.Module` (Vaze, Xie and Namburete, 2020)."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

from zoo.modules.separable import SeparableConv2d


class ThinUNetBlock(nn.Sequential):
    """3 x 3 convolutions with ReLU, then a batch norm. (N, in, H, W) -> (N, width, H, W).

    A separable convolution has one bias, after its pointwise part.
    """

    def __init__(self, in_channels: int, width: int, *, separable: bool, convs: int = 2) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, convs + 1):
            channels = in_channels if number == 1 else width
            layers[f"conv{number}"] = (
                SeparableConv2d(channels, width, 3, padding=1, depthwise_bias=False)
                if separable
                else nn.Conv2d(channels, width, 3, padding=1)
            )
            layers[f"act{number}"] = nn.ReLU()
        layers["norm"] = nn.BatchNorm2d(width)
        super().__init__(layers)


class ThinUNet(nn.Module):
    """A gray picture to the probability of the foreground.

    (N, in_channels, H, W) -> (N, 1, H, W) in [0, 1]; H and W must be multiples of 64. Six blocks down with
    max-pooling, one at the bottom, six up with nearest-neighbour up-sampling and the skip concatenated; every
    layer has `width` channels. `bottom_convs` is the number of convolutions of the deepest block.
    """

    STAGES = 6

    def __init__(
        self, in_channels: int = 1, *, width: int = 32, separable: bool = False, bottom_convs: int = 2
    ) -> None:
        super().__init__()
        for stage in range(1, self.STAGES + 1):
            first = in_channels if stage == 1 else width
            self.add_module(f"down{stage}", ThinUNetBlock(first, width, separable=separable))
        self.pool = nn.MaxPool2d(2)
        self.bottom = ThinUNetBlock(width, width, separable=separable, convs=bottom_convs)
        for stage in range(self.STAGES, 0, -1):
            self.add_module(f"up{stage}", nn.Upsample(scale_factor=2, mode="nearest"))
            self.add_module(f"join{stage}", ThinUNetBlock(2 * width, width, separable=separable))
        self.head = nn.Conv2d(width, 1, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for stage in range(1, self.STAGES + 1):
            x = self.get_submodule(f"down{stage}")(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for stage in range(self.STAGES, 0, -1):
            x = torch.cat([self.get_submodule(f"up{stage}")(x), skips[stage - 1]], dim=1)
            x = self.get_submodule(f"join{stage}")(x)
        return cast(Tensor, self.sigmoid(self.head(x)))
