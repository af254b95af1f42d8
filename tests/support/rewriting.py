"""Inputs, contexts and nets for the tests of techniques that replace layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.architectures.unet import UNetArchitecture
from zoo.contracts import Context, Technique


def smooth(images: int, channels: int = 3, size: int = 24) -> Tensor:
    """Inputs with the correlations of pictures, in [0, 1]."""
    return functional.avg_pool2d(torch.rand(images, channels, size + 4, size + 4), 5, stride=1)


def context(example: Tensor, calibration: Callable[[], Any] | None = None, seed: int = 0) -> Context:
    """What a technique is given, with nothing in it that it could not do without."""
    return Context(UNetArchitecture(), example[:1], calibration, seed=seed)


def rewritten(technique: Technique, model: nn.Module, data: Tensor, *, fitted: bool = True) -> nn.Module:
    """A copy of `model` after the technique, fitted to `data` if `fitted`."""
    ctx = context(data, (lambda: data.split(4)) if fitted else None)
    return technique.rewrite(copy.deepcopy(model).eval(), ctx)


def reasons(ctx: Context) -> dict[str, str]:
    """What was left alone, and why."""
    return {left.layer: left.reason for left in ctx.skipped_layers}


def mean_error(net: nn.Module, dense: nn.Module, inputs: Tensor) -> float:
    """Root mean square of the difference of two nets' outputs, over that of the second's."""
    with torch.no_grad():
        wanted = dense(inputs)
        return float((net(inputs) - wanted).norm() / wanted.norm())


class Odd(nn.Module):
    """Strided, dilated, transposed and grouped layers, batch norms, no biases: (N, 3, H, W) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(16),
            nn.LeakyReLU(0.1),
            nn.Conv2d(16, 24, 3, padding="same", dilation=2),
            nn.PReLU(24),
            nn.Conv2d(24, 24, 3, padding=1, groups=2),
            nn.SiLU(),
            nn.ConvTranspose2d(24, 16, 2, stride=2),
            nn.GELU(),
            nn.ConvTranspose2d(16, 12, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.Hardswish(),
            nn.Conv2d(12, 16, (1, 5), padding=(0, 2), padding_mode="reflect"),
            nn.ELU(),
        )
        self.classes = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        return self.classes(features.mean((2, 3)))


def odd_net() -> nn.Module:
    """The above, its batch norms having seen data."""
    torch.manual_seed(0)
    net = Odd().train()
    with torch.no_grad():
        for _ in range(4):
            net(smooth(4))
    return net.eval()
