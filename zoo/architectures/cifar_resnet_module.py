"""ResNet-20 for CIFAR-10 as an `nn.Module` (He et al., CVPR 2016, section 4.2)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS, WIDTHS = 3, (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without weights. (N, in, H, W) -> (N, out, H/stride, W/stride).

    A shortcut to more channels takes every second pixel and pads with zeros on both sides (the paper's option A).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.ReLU()
        self.stride, self.added = stride, (out_channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added, self.added))
        return cast(Tensor, self.act2(y + x))


class CifarResNet(nn.Module):
    """(N, 3, H, W) -> (N, classes); H and W must be multiples of 4."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.act = nn.ReLU()
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], 1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], 2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], 2)
        self.linear = nn.Linear(WIDTHS[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer3(self.layer2(self.layer1(self.act(self.bn1(self.conv1(x))))))
        return cast(Tensor, self.linear(y.mean((2, 3))))


def _stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(out_channels, out_channels, 1) for _ in range(BLOCKS - 1))
    return nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)
