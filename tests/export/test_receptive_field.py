"""How far a network looks is measured on its exported file, at every stride, and what looks everywhere is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo import plugins
from zoo.checkpoints.resolver import locate_artifact
from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.contracts.architecture import WHOLE_FRAME
from zoo.errors import InputError
from zoo.export.exporter import export_onnx
from zoo.export.receptive_field import measure_halo


class SqueezeExcitation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.widen(self.narrow(8 * x.mean((2, 3), keepdim=True)).relu()))


class Attention(nn.Module):
    """Of every position to every other, as many as a sixteenth of the pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, 3 * width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = F.avg_pool2d(x, 4)
        query, key, value = self.mix(small).flatten(2).chunk(3, 1)
        seen = value @ torch.softmax(query.transpose(1, 2) @ key, 1)
        return x + F.interpolate(seen.reshape(small.shape), scale_factor=4.0)


class Place(nn.Module):
    """Adds what depends on where in the frame a pixel is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.cumsum(torch.ones_like(x), 2) * 1e-3


class HourGlass(nn.Module):
    """Down by `factor` and up again, with a convolution between."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, width, factor, factor)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.ConvTranspose2d(width, width, factor, factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.up(self.mix(self.down(x)))


def dilated(*dilations: int) -> list[nn.Module]:
    return [nn.Conv2d(8, 8, 3, padding=each, dilation=each) for each in dilations]


class Between(Architecture):
    """A network with `layers` of eight channels."""

    id = "between"
    task = "raw-to-rgb"

    def __init__(self, layers: list[nn.Module], multiple_of: int, halo: int | None = None) -> None:
        self.layers = layers
        self.input = InputSpec("packed-raw", 4, multiple_of, (64, 64), mosaic="bayer", halo=halo)
        self.output = OutputSpec("rgb", 3, 2)

    def build(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(4, 8, 1), *self.layers, nn.Conv2d(8, 12, 1), nn.PixelShuffle(2), nn.Sigmoid()
        ).eval()


def measured(architecture: Architecture, model: nn.Module | None = None) -> int | None:
    model = architecture.build().eval() if model is None else model
    session = plugins.engine("onnxruntime").open(export_onnx(model, architecture), threads=1)
    return measure_halo(session, architecture.input, architecture.output)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("layers", "multiple_of", "halo"),
    [
        ([], 1, 0),
        (dilated(1), 1, 1),
        (dilated(1, 2, 4, 8), 1, 15),
        (dilated(1, 2, 4, 8), 4, 16),
        (dilated(100, 100), 1, 200),
        ([nn.AvgPool2d(9, 1, 4)], 2, 4),
        ([HourGlass(8, 4)], 4, 4),  # a position of the middle looks at its neighbours, each four pixels wide
        ([HourGlass(8, 8), *dilated(3)], 8, 16),
    ],
)
def test_a_known_halo_is_measured(layers: list[nn.Module], multiple_of: int, halo: int) -> None:
    assert measured(Between(layers, multiple_of)) == halo


@pytest.mark.parametrize(
    "layer",
    [SqueezeExcitation(8), nn.InstanceNorm2d(8), nn.GroupNorm(2, 8), Attention(8), Place()],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("declared", [None, 16])
def test_a_global_operation_needs_the_whole_frame(layer: nn.Module, declared: int | None) -> None:
    assert measured(Between([*dilated(1), layer], 4, declared)) == WHOLE_FRAME


@pytest.mark.parametrize("name", ["unet", "lighter-unet", "lighter-unet-int8"])
def test_the_halo_that_the_checkpoints_declare_is_the_measured_one(name: str) -> None:
    artifact = locate_artifact(name)
    session = plugins.engine("onnxruntime").open(artifact.read("model.onnx"), threads=1)
    made, output = artifact.manifest.input, artifact.manifest.output
    assert measure_halo(session, made, output) == made.halo
    assert measure_halo(session, replace(made, halo=None), output) == made.halo


def test_a_halo_that_is_declared_too_narrow_is_widened() -> None:
    assert measured(Between(dilated(20, 20), 2, halo=8)) == 40


def test_a_network_of_one_size_is_measured_within_it() -> None:
    near, far = Between(dilated(1, 2), 1), Between(dilated(20, 20), 1)
    for each in (near, far):
        each.input = replace(each.input, fixed_size=True)
    assert measured(near) == 3
    assert measured(far) == WHOLE_FRAME


def test_what_nothing_changes_is_unknown() -> None:
    class Constant:
        def run(self, inputs: np.ndarray) -> np.ndarray:
            return inputs * 0

    assert measure_halo(Constant(), Between([], 1).input, OutputSpec("rgb", 3, 1)) is None


def test_an_engine_that_refuses_the_frames_leaves_the_halo_as_it_is() -> None:
    class Refusing:
        def run(self, inputs: np.ndarray) -> np.ndarray:
            raise InputError("no")

    assert measure_halo(Refusing(), Between([], 1).input, OutputSpec("rgb", 3, 2)) is None
    assert measure_halo(Refusing(), Between([], 1, 24).input, OutputSpec("rgb", 3, 2)) == 24
