"""DnCNN as an `nn.Module` (Zhang et al., IEEE TIP 2017)."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn

DEPTH, WIDTH = 17, 64


class DnCnn(nn.Module):
    """A noisy picture, less the noise that the body finds in it. (N, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = nn.Conv2d(channels, WIDTH, 3, padding=1)
        layers["act1"] = nn.ReLU()
        for number in range(2, DEPTH):
            layers[f"conv{number}"] = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
            layers[f"norm{number}"] = nn.BatchNorm2d(WIDTH)
            layers[f"act{number}"] = nn.ReLU()
        layers[f"conv{DEPTH}"] = nn.Conv2d(WIDTH, channels, 3, padding=1)
        self.body = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x - self.body(x))
