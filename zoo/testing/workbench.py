"""A small network that has something for every technique, a smaller one that has nothing, and data for both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from zoo.contracts import (
    Architecture,
    CropSize,
    Dataset,
    InputSpec,
    OutputSpec,
    Sample,
    Split,
    crop_size,
    sides_of,
)
from zoo.contracts.random_inputs import random_inputs

if TYPE_CHECKING:
    from zoo.contracts import FloatArray, TargetArray

_SCENES = {"train": 4, "val": 1, "test": 2}


class _Double(nn.Module):
    """Two 3 x 3 convolutions with LeakyReLU. (N, in, H, W) -> (N, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.act1 = nn.LeakyReLU(0.2)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.act2 = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act2(self.conv2(self.act1(self.conv1(x)))))


class _Residual(nn.Module):
    """conv - batch norm - SiLU - grouped conv - batch norm, added to its input. (N, C, H, W) -> the same."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.act1 = nn.SiLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.act2 = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        return cast(Tensor, self.act2(x + y))


class WorkbenchNet(nn.Module):
    """A U-Net of three levels with residual blocks, one in the second level and two at the bottom.

    (N, 4, H, W) -> (N, 3, 2H, 2W); H and W must be multiples of 4. It holds what compression meets in the field:
    skip connections, transposed convolutions, batch norms, grouped convolutions, LeakyReLU and SiLU, max-pooling
    and a pixel shuffle.
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 24, 32)) -> None:
        super().__init__()
        first, second, third = widths
        self.down1 = _Double(4, first)
        self.down2 = nn.Sequential(_Double(first, second), _Residual(second, 1))
        self.pool = nn.MaxPool2d(2)
        self.bottom = nn.Sequential(_Double(second, third), _Residual(third, 4), _Residual(third, 1))
        self.up2 = nn.ConvTranspose2d(third, second, 2, stride=2)
        self.join2 = _Double(2 * second, second)
        self.up1 = nn.ConvTranspose2d(second, first, 2, stride=2)
        self.join1 = _Double(2 * first, first)
        self.head = nn.Conv2d(first, 12, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        skip1 = self.down1(x)
        skip2 = self.down2(self.pool(skip1))
        x = self.bottom(self.pool(skip2))
        x = self.join2(torch.cat([self.up2(x), skip2], dim=1))
        x = self.join1(torch.cat([self.up1(x), skip1], dim=1))
        return cast(Tensor, self.shuffle(self.head(x)))


class Workbench(Architecture):
    """The small U-Net that techniques are tried on."""

    id = "workbench"
    summary = "a small U-Net that has something for every technique"
    task = "raw-to-rgb"
    input = InputSpec("packed-raw", 4, multiple_of=4, example=(32, 32), mosaic="bayer", white_balance=True)
    output = OutputSpec("rgb", 3, scale=2)

    def build(self) -> nn.Module:
        """Return a network whose batch norms have seen data, as those of a trained one have."""
        net = WorkbenchNet().train()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _ in range(8):
                net(torch.rand(4, 4, 32, 32, generator=generator))
        return net.eval()

    def stages(self) -> Sequence[Mapping[str, Any]]:
        return (
            {"down": "down1", "up": "up1", "join": "join1"},
            {"down": "down2", "up": "up2", "join": "join2"},
            {"down": "bottom"},
        )


class _InertNet(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x[:, :3], scale_factor=2.0, mode="nearest")


class Inert(Workbench):
    """A net without layers, parameters or activations: whatever claims to compress it does nothing."""

    id = "inert"
    summary = "a net in which there is nothing to compress"

    def build(self) -> nn.Module:
        return _InertNet().eval()

    def stages(self) -> Sequence[Mapping[str, Any]]:
        return ()


@dataclass(frozen=True)
class PatternsConfig:
    """`patterns` has no options."""


class Patterns(Dataset):
    """Smooth random pictures: packed-raw inputs and, as targets, what a plain path makes of them."""

    id = "patterns"
    summary = "smooth random pictures for tests"
    Config = PatternsConfig
    tasks = frozenset({"raw-to-rgb", "segmentation", "classification"})
    rectangular = True

    def scenes(self, split: Split) -> Sequence[str]:
        return [f"{split}-{number}" for number in range(_SCENES[split])]

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        number = start
        while True:
            yield self._sample(architecture, size, f"train/{seed}/{number}", "train-0")
            number += 1

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        for scene in self.scenes(split):
            yield self._sample(architecture, crop_size(*architecture.input.example), f"{scene}/{seed}", scene)

    def identity(self) -> str:
        return "patterns 1"

    def _sample(self, architecture: Architecture, size: CropSize, name: str, scene: str) -> Sample:
        digest = hashlib.sha256(name.encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        channels = architecture.input.channels
        height, width = sides_of(size)
        if architecture.input.parts:
            seed = int(generator.integers(1 << 32))
            drawn = random_inputs(architecture.input, 1, (height, width), seed=seed)[0]
            return Sample(name, scene, drawn, self._target(architecture, drawn))
        coarse = generator.random((channels, height // 4 + 2, width // 4 + 2), dtype=np.float32)
        smooth = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
        inputs = np.clip(smooth + generator.normal(0, 0.02, smooth.shape), 0, 1).astype(np.float32)
        return Sample(name, scene, inputs, self._target(architecture, smooth))

    def _target(self, architecture: Architecture, smooth: FloatArray) -> TargetArray | None:
        """The inputs' channels in turn, enlarged: something a small net can learn."""
        output = architecture.output
        if not output.dense:
            return None
        taken = smooth[np.arange(output.channels) % len(smooth)]
        large = taken.repeat(output.scale, axis=1).repeat(output.scale, axis=2)
        if output.kind == "classes":
            return np.asarray(large.argmax(axis=0))
        return (large > 0.5).astype(np.float32) if output.kind == "mask" else np.sqrt(large)
