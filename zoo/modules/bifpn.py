"""Exchange between maps of several resolutions (Tan, Pang and Le, "EfficientDet", CVPR 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

_EPSILON = 1e-4


class WeightedMean(nn.Module):
    """The mean of maps of one size, with weights that are learned and not negative. (N, C, H, W) each -> the same.

    Args:
        inputs: How many maps.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(inputs))

    def forward(self, *maps: Tensor) -> Tensor:
        weight = torch.relu(self.weight)
        weight = weight / (weight.sum() + _EPSILON)
        mean = maps[0] * weight[0]
        for number in range(1, len(maps)):
            mean = mean + maps[number] * weight[number]
        return mean


class BiFpnBlock(nn.Module):
    """One pass from the coarsest map to the finest and back; a list of (N, C, H / 2^k, W / 2^k) to the same.

    Args:
        levels: How many maps, at least two.
        fuse: Makes what computes one map of two or three of one size: called with how many.
    """

    def __init__(self, levels: int, fuse: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.down = nn.ModuleList(fuse(2) for _ in range(levels - 1))
        self.up = nn.ModuleList([*(fuse(3) for _ in range(levels - 2)), fuse(2)])
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.reduce = nn.MaxPool2d(2)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        found = list(maps)
        for level in reversed(range(len(self.down))):
            found[level] = self.down[level](maps[level], self.enlarge(found[level + 1]))
        for level, fuse in enumerate(self.up, 1):
            coarser = self.reduce(found[level - 1])
            last = level == len(self.up)
            found[level] = fuse(maps[level], coarser) if last else fuse(maps[level], found[level], coarser)
        return found
