"""Small networks and typical inputs for the techniques that take parts of a network out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.architectures.unet import UNetArchitecture
from zoo.architectures.unet_module import UNet
from zoo.contracts import Context


def smooth(images: int, channels: int = 4, size: int = 32, seed: int = 0) -> Tensor:
    """Inputs with the correlations of pictures, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(images, channels, size + 4, size + 4, generator=generator)
    return functional.avg_pool2d(noise, 5, stride=1) * 2 - 0.5


def small_unet(seed: int = 0) -> UNet:
    """The U-Net with few channels."""
    torch.manual_seed(seed)
    return UNet(widths=(4, 8, 8, 12, 16)).eval()


def context(
    example: Tensor | None = None, calibration: Sequence[Tensor] | None = None, seed: int = 0
) -> Context:
    """A context whose calibration batches are given; by default those that suit `small_unet`."""
    if example is None:
        example, calibration = smooth(1), calibration or [smooth(4, seed=1), smooth(4, seed=2)]
    batches = None if calibration is None else (lambda: calibration)
    return Context(UNetArchitecture(), example, batches, seed=seed)


def parameters(model: nn.Module) -> int:
    """How many a network has."""
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each entry of the state dict."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def relative_error(model: nn.Module, reference: nn.Module, inputs: Tensor) -> float:
    """Root mean square of the difference of two networks' outputs over that of the reference's."""
    with torch.no_grad():
        wanted = reference(inputs)
        return float((model(inputs) - wanted).norm() / wanted.norm())
