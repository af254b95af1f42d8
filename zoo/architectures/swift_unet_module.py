"""`swift-unet` as an `nn.Module`: a residual U-Net on a quarter of the mosaic's resolution."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

_MOSAIC, _PLANES = 4, 4


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with ReLU, the input added before the last. (N, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act2(x + self.conv2(self.act1(self.conv1(x)))))


class Up(nn.Module):
    """A 1 x 1 convolution and twice the size, added to the skip, then a block. (N, C, H, W) -> (N, C', 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.resize = nn.Upsample(scale_factor=2, mode="nearest")
        self.block = ResidualBlock(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return cast(Tensor, self.block(self.resize(self.project(x)) + skip))


class SwiftUNet(nn.Module):
    """Packed sensor data and noise planes to white-balanced camera colours, both on the curve of `zoo.raw.tone`.

    (N, 8, H, W) -> (N, 3, 2H, 2W); H and W must be multiples of 16. The output is not clipped. It is the sum of
    what the network computes and a linear demosaic of its input, which a factor between 0 and 1 takes back where
    the noise planes tell of much noise. `widths` are the channels of the four levels.
    """

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        w = widths
        self.stem = nn.Conv2d(_MOSAIC + _PLANES, w[0], 4, stride=2, padding=1)
        self.act = nn.ReLU()
        self.enc0 = ResidualBlock(w[0])
        self.down1 = nn.Sequential(nn.Conv2d(w[0], w[1], 2, stride=2), nn.ReLU())
        self.enc1 = ResidualBlock(w[1])
        self.down2 = nn.Sequential(nn.Conv2d(w[1], w[2], 2, stride=2), nn.ReLU())
        self.enc2 = ResidualBlock(w[2])
        self.down3 = nn.Sequential(nn.Conv2d(w[2], w[3], 2, stride=2), nn.ReLU())
        self.enc3 = ResidualBlock(w[3])
        self.up2 = Up(w[3], w[2])
        self.up1 = Up(w[2], w[1])
        self.up0 = Up(w[1], w[0])
        self.head = nn.Conv2d(w[0], 48, 1)
        self.gate = nn.Conv2d(_PLANES, 1, 1)
        self.demosaic = nn.Conv2d(_MOSAIC, 48, 4, stride=2, padding=1, bias=False)
        self.shuffle = nn.PixelShuffle(4)
        with torch.no_grad():
            self.demosaic.weight.copy_(demosaic_weights())
            self.head.weight.mul_(0.1)
            nn.init.zeros_(cast(Tensor, self.head.bias))
            # Half of the demosaic where green's deviation at black is about 0.02.
            self.gate.weight.copy_(torch.tensor([0.0, -8.0, 0.0, -4.0]).view(1, 4, 1, 1))
            nn.init.constant_(cast(Tensor, self.gate.bias), 4.5)

    def forward(self, x: Tensor) -> Tensor:
        mosaic, planes = x[:, :_MOSAIC], x[:, _MOSAIC:]
        simple = self.demosaic(mosaic * torch.sigmoid(self.gate(planes)))
        skip0 = self.enc0(self.act(self.stem(x)))
        skip1 = self.enc1(self.down1(skip0))
        skip2 = self.enc2(self.down2(skip1))
        y = self.enc3(self.down3(skip2))
        y = self.up0(self.up1(self.up2(y, skip2), skip1), skip0)
        return cast(Tensor, self.shuffle(self.head(y) + simple))


def demosaic_weights() -> Tensor:
    """Return the linear demosaic of packed data as a convolution with stride 2 and padding 1, (48, 4, 4, 4).

    The filters are those of Malvar, He and Cutler, "High-quality linear interpolation for demosaicing of
    Bayer-patterned color images", ICASSP 2004, in eighths.
    """
    green = {(0, 0): 4.0, **_ring(2.0, (1, 0), (0, 1)), **_ring(-1.0, (2, 0), (0, 2))}
    along = {
        (0, 0): 5.0,
        **_ring(4.0, (0, 1)),
        **_ring(-1.0, (0, 2), (1, 1), (1, -1)),
        **_ring(0.5, (2, 0)),
    }
    across = {(column, row): weight for (row, column), weight in along.items()}
    corner = {(0, 0): 6.0, **_ring(2.0, (1, 1), (1, -1)), **_ring(-1.5, (2, 0), (0, 2))}
    itself = {(0, 0): 8.0}
    # by the place in the cell of red, green, green, blue: the filters of the picture's red, green and blue
    filters = {
        (0, 0): (itself, green, corner),
        (0, 1): (along, itself, across),
        (1, 0): (across, itself, along),
        (1, 1): (corner, green, itself),
    }
    channel = {(0, 0): 0, (0, 1): 1, (1, 1): 2, (1, 0): 3}
    weights = torch.zeros(3, 4, 4, _MOSAIC, 4, 4)
    for row in range(4):
        for column in range(4):
            for color, taps in enumerate(filters[row % 2, column % 2]):
                for (down, right), weight in taps.items():
                    y, x = row + down, column + right
                    weights[color, row, column, channel[y % 2, x % 2], y // 2 + 1, x // 2 + 1] = weight / 8
    return weights.reshape(48, _MOSAIC, 4, 4)


def _ring(weight: float, *places: tuple[int, int]) -> dict[tuple[int, int], float]:
    return {at: weight for row, column in places for at in ((row, column), (-row, -column))}
