"""The RAW denoiser PMRID with LibRaw's colours, to compare with.

Wang, Huang, Xu, Liu, Liu and Wang, "Practical Deep Raw Image Denoising on Mobile Devices", ECCV 2020. Its weights are
those that the authors publish, as one file of safetensors. It takes the noise of a file as that of the phone sensor
that it was trained on (the paper's k-Sigma transform), so that it serves every camera.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.raw.decode import RawFrame

#: Levels above black of the sensor that it was trained on, and its noise at the gain of that training: variance is
#: `_SHOT * level + _READ`.
_LEVELS, _SHOT, _READ = 959.0, 0.968, 2.979
#: The network takes levels as shares of this.
_SPAN = 256.0
#: The mosaic that is handed on to LibRaw, in 16 bits: what is below black is noise and must not be clipped.
_BLACK, _WHITE = 4096, 65535


class Separable(nn.Module):
    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, side, stride, side // 2, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class Encoder(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Separable(inputs, outputs // 4, 5, stride)
        self.conv2 = Separable(outputs // 4, outputs, 5)
        self.proj = Separable(inputs, outputs, 3, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x).relu()) + self.proj(x)).relu()


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0 = Separable(channels, channels, 3)
        self.conv1 = Separable(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv1(self.conv0(x).relu())


class Decoder(nn.Module):
    def __init__(self, inputs: int, skipped: int, outputs: int) -> None:
        super().__init__()
        self.decode_conv = Residual(inputs)
        self.upsample = nn.ConvTranspose2d(inputs, outputs, 2, 2)
        self.proj_conv = Separable(skipped, outputs, 3)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        return self.upsample(self.decode_conv(x)) + self.proj_conv(skipped).relu()


class Pmrid(nn.Module):
    """(N, 4, H, W) to the same, red, green, green and blue; H and W are multiples of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Sequential()
        self.conv0.add_module("conv", nn.Conv2d(4, 16, 3, padding=1))
        widths = (16, 64, 128, 256, 512)
        for number, blocks in enumerate((2, 2, 4, 4), start=1):
            stages = [
                Encoder(widths[number - (block == 0)], widths[number], 2 if block == 0 else 1)
                for block in range(blocks)
            ]
            self.add_module(f"enc{number}", nn.Sequential(*stages))
        self.encdec = Separable(512, 64, 3)
        for number, (inputs, outputs) in enumerate(((64, 64), (64, 32), (32, 32), (32, 16)), start=1):
            self.add_module(f"dec{number}", Decoder(inputs, widths[4 - number], outputs))
        self.out0 = Residual(16)
        self.out1 = nn.Sequential()
        self.out1.add_module("conv", nn.Conv2d(16, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        skipped = [self.conv0(x).relu()]
        for number in (1, 2, 3, 4):
            skipped.append(self.get_submodule(f"enc{number}")(skipped[-1]))
        y = self.encdec(skipped.pop()).relu()
        for number in (1, 2, 3, 4):
            y = self.get_submodule(f"dec{number}")(y, skipped.pop())
        return x + self.out1(self.out0(y))


def load(path: Path) -> Pmrid:
    network = Pmrid().eval()
    network.load_state_dict(load_file(path))
    return network


def denoise(network: Pmrid, frame: RawFrame, ratio: float) -> RawFrame:
    """Return an RGGB frame that states its noise, denoised and amplified, in 16 bits."""
    assert frame.noise is not None
    black, white = frame.black[0], frame.white[0]
    levels = (frame.mosaic.astype(np.float32) - black) * (_LEVELS / (white - black))
    shot, read = frame.noise.shot[1] * _LEVELS, frame.noise.read[1] * _LEVELS**2
    scale = _SHOT / shot
    shift = (read / shot**2 - _READ / _SHOT**2) * _SHOT
    packed = torch.from_numpy(
        np.stack([levels[row::2, column::2] for row in (0, 1) for column in (0, 1)])[None]
    )
    height, width = packed.shape[2:]
    inputs = nn.functional.pad(
        (packed * scale + shift) * (_SPAN / _LEVELS), (0, -width % 16, 0, -height % 16), "reflect"
    )
    with torch.inference_mode():
        outputs = network(inputs)[0, :, :height, :width].numpy()
    clean = (outputs * (_LEVELS / _SPAN) - shift) / scale * (ratio / _LEVELS)
    mosaic = np.empty(frame.mosaic.shape, np.float32)
    for number, plane in enumerate(clean):
        mosaic[number // 2 :: 2, number % 2 :: 2] = plane
    values = np.clip(np.rint(mosaic * (_WHITE - _BLACK) + _BLACK), 0, _WHITE).astype(np.uint16)
    return dataclasses.replace(
        frame, mosaic=values, black=(float(_BLACK),) * 4, white=(float(_WHITE),) * 4, noise=None
    )
