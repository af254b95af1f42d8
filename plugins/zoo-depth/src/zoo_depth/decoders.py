"""What makes one fine map of the maps of an encoder: BiFPN blocks, and the up-heads of FFNet.

Tan, Pang and Le, "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020; Mehta et al., "Simple and
Efficient Architectures for Semantic Segmentation", CVPR workshops 2022.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from zoo.modules.bifpn import BiFpnBlock, WeightedMean

#: Of each FFN-UP block, from the finest of four maps to the coarsest: channels that maps are brought to, and channels
#: of what the block returns.
FFN_UP: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {
        "a": ((64, 128, 256, 512), (128, 128, 128, 128)),
        "b": ((64, 128, 128, 256), (96, 96, 64, 32)),
        "c": ((128, 128, 128, 128), (128, 16, 16, 16)),
    }
)


def convolution(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Return a convolution that keeps the size, batch norm and ReLU. (N, in, H, W) -> (N, out, H, W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class WeightedSum(WeightedMean):
    """A weighted mean of maps of one size, then a convolution. (N, C, H, W) each -> the same."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__(inputs)
        self.layers = convolution(channels, channels, 3)

    def forward(self, *maps: Tensor) -> Tensor:
        return cast(Tensor, self.layers(super().forward(*maps)))


class BiFpnDecoder(nn.Module):
    """BiFPN blocks over the maps of an encoder, whose results are added up and enlarged once more.

    A list of (N, C_k, H / 2^k, W / 2^k) -> (N, channels, 2H, 2W).

    Args:
        widths: Channels of the maps, the finest first.
        channels: Of the blocks.
        blocks: How many.
    """

    def __init__(self, widths: Sequence[int], channels: int, blocks: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(convolution(width, channels, 1) for width in widths)
        self.blocks = nn.ModuleList(
            BiFpnBlock(len(widths), partial(WeightedSum, channels=channels)) for _ in range(blocks)
        )
        self.to_finest = nn.ModuleList(
            nn.Upsample(scale_factor=2**level, mode="nearest") for level in range(1, len(widths))
        )
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.channels = channels

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        found = [lateral(each) for lateral, each in zip(self.lateral, maps, strict=True)]
        for block in self.blocks:
            found = block(found)
        total = found[0]
        for enlarge, each in zip(self.to_finest, found[1:], strict=True):
            total = total + enlarge(each)
        return cast(Tensor, self.enlarge(total))


class FfnUp(nn.Module):
    """The up-head of FFNet: from the coarsest map to the finest, all results side by side at the finest size.

    A list of (N, C_k, H / 2^k, W / 2^k) -> (N, channels, H, W).

    Args:
        widths: Channels of the four maps, the finest first.
        block: "a", "b" or "c": how many channels it has, which :data:`FFN_UP` lists.
    """

    def __init__(self, widths: Sequence[int], block: str) -> None:
        super().__init__()
        inner, outer = FFN_UP[block]
        self.adapters = nn.ModuleList(
            convolution(wide, narrow, 1) for wide, narrow in zip(widths, inner, strict=True)
        )
        self.rise = nn.ModuleList(convolution(coarse, fine, 1) for fine, coarse in itertools.pairwise(inner))
        self.smooth = nn.ModuleList(
            convolution(before, after, 3) for before, after in zip(inner, outer, strict=True)
        )
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.to_finest = nn.ModuleList(
            nn.Upsample(scale_factor=2**level, mode="nearest") for level in range(1, len(inner))
        )
        self.channels = sum(outer)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        found = [adapter(each) for adapter, each in zip(self.adapters, maps, strict=True)]
        for level in reversed(range(len(self.rise))):
            found[level] = found[level] + self.enlarge(self.rise[level](found[level + 1]))
        smooth = [layers(each) for layers, each in zip(self.smooth, found, strict=True)]
        finest = [
            smooth[0],
            *(enlarge(each) for enlarge, each in zip(self.to_finest, smooth[1:], strict=True)),
        ]
        return torch.cat(finest, dim=1)
