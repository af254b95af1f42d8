"""C-UNet and C-UNet++ as `nn.Module`s (Bahl, Daniel, Moretti and Lafarge, 2019)."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn

from zoo.modules.separable import SeparableConv2d


def _stage(in_channels: int, out_channels: int, kinds: str) -> nn.Sequential:
    """3 x 3 convolutions with ReLU: one for each letter, "c" for dense and "s" for separable."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, kind in enumerate(kinds, 1):
        channels = in_channels if number == 1 else out_channels
        layers[f"conv{number}"] = (
            SeparableConv2d(channels, out_channels, 3, padding=1, depthwise_bias=False)
            if kind == "s"
            else nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        layers[f"act{number}"] = nn.ReLU()
    return nn.Sequential(layers)


class CUNet(nn.Module):
    """A satellite picture to the probability of the foreground, through 8, 16 and 32 channels.

    (N, in_channels, H, W) -> (N, 1, H, W) in [0, 1]; H and W must be multiples of 8. There are no skips.
    `down` and `up` say, for each of the three stages, outermost first, which convolutions it has; see `_stage`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        down: tuple[str, str, str] = ("ccs", "ccs", "ccs"),
        up: tuple[str, str, str] = ("cc", "cc", "cc"),
    ) -> None:
        super().__init__()
        self.down1 = _stage(in_channels, 8, down[0])
        self.down2 = _stage(8, 16, down[1])
        self.down3 = _stage(16, 32, down[2])
        self.pool = nn.MaxPool2d(2)
        self.up3 = nn.ConvTranspose2d(32, 32, 2, stride=2)
        self.join3 = _stage(32, 32, up[2])
        self.up2 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.join2 = _stage(16, 16, up[1])
        self.up1 = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.join1 = _stage(8, 8, up[0])
        self.head = nn.Conv2d(8, 1, 1)
        self.act = nn.ReLU()
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.down1(x))
        x = self.pool(self.down2(x))
        x = self.pool(self.down3(x))
        x = self.join3(self.act(self.up3(x)))
        x = self.join2(self.act(self.up2(x)))
        x = self.join1(self.act(self.up1(x)))
        return cast(Tensor, self.sigmoid(self.head(x)))
