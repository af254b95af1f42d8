"""Small quantized networks that several test modules share; made once."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, fx, nn

from zoo.architectures.unet_module import UNet
from zoo.contracts import Architecture, Context, InputSpec, OutputSpec
from zoo.export.exporter import export_onnx
from zoo.onnx.symmetric import to_symmetric
from zoo_techniques.qat import Qat
from zoo_techniques.qat.technique import QatConfig


class SmallUNet(Architecture):
    """The U-Net at an eighth of its width."""

    id = "small-unet"
    summary = "for tests"
    task = "raw-to-rgb"
    input = InputSpec(kind="packed-raw", channels=4, multiple_of=16, example=(32, 32))
    output = OutputSpec(kind="rgb", channels=3, scale=2)

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        net = UNet(widths=(8, 16, 16, 32, 32))
        with torch.no_grad():
            for module in net.modules():  # activations of one size throughout, and an output in [0, 1]
                if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                    module.weight.mul_(2.2)
            net.head.weight.mul_(0.1)
            net.head.bias.fill_(0.5)
        return net.eval()


class Classifier(Architecture):
    """Any network from RGB to logits, normalised."""

    id = "classifier"
    summary = "for tests"
    task = "classification"
    input = InputSpec(
        kind="rgb", channels=3, multiple_of=32, example=(64, 64), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
    )
    output = OutputSpec(kind="logits", channels=10)


def pictures(count: int, seed: int = 1, channels: int = 4, size: int = 32) -> Tensor:
    """Smooth random pictures in [0, 1]. (count, channels, size, size)"""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, size // 8, size // 8, generator=generator)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def context(architecture: Architecture, example: Tensor) -> Context:
    """A context whose calibration data are `example`."""
    return Context(architecture, example[:1], calibration=lambda: iter([example]))


def quantized(net: nn.Module, example: Tensor, **options: object) -> tuple[fx.GraphModule, Context]:
    """`net` after the rewriting step of `qat`."""
    where = context(SmallUNet(), example)
    module = Qat(QatConfig(**options)).rewrite(net, where)  # type: ignore[arg-type]
    assert isinstance(module, fx.GraphModule)
    return module, where


@functools.cache
def small_unet() -> fx.GraphModule:
    """The small U-Net quantized, calibrated and finished."""
    module, where = quantized(SmallUNet().build(), pictures(4))
    return Qat().finish(module.eval(), where)  # type: ignore[return-value]


@functools.cache
def small_unet_file() -> bytes:
    """The same, exported."""
    return export_onnx(small_unet(), SmallUNet())


@functools.cache
def small_signed_file() -> bytes:
    """The same as earlier versions wrote it: int8 activations, the zero point 0."""
    return to_symmetric(small_symmetric_file())


@functools.cache
def small_symmetric_file() -> bytes:
    """The small U-Net exported with levels symmetric around 0."""
    module, where = quantized(SmallUNet().build(), pictures(4), symmetric=True)
    return export_onnx(Qat().finish(module.eval(), where), SmallUNet())


@functools.cache
def small_float_file() -> bytes:
    """The small U-Net in float, exported."""
    return export_onnx(SmallUNet().build(), SmallUNet())
