"""Small plugins of a third party that keep every promise; tests of the conformance kits break one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contracts import (
    Architecture,
    Dataset,
    DeviceProfile,
    Engine,
    InputPart,
    InputSpec,
    OutputSpec,
    Sample,
    Split,
)
from zoo.errors import InputError, ZooError
from zoo.machine.processors import thread_count
from zoo.onnx.check import check_onnx, read_model_bytes
from zoo.options import option

if TYPE_CHECKING:
    from torch import nn


# -------------------------------------------------------------------------------------------- architecture


class Sketch(Architecture):
    """Two convolutions at half the size, enlarged again."""

    contract = 1
    id = "sketch"
    summary = "a network of two convolutions"
    task = "segmentation"
    input = InputSpec("gray", 1, multiple_of=2, example=(32, 32), halo=4)
    output = OutputSpec("mask", 1, scale=1)

    def build(self) -> nn.Module:
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(4, 4, 1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )

    def stages(self) -> Sequence[dict[str, Any]]:
        return ({"down": "0"}, {"up": "2"})


class SeveralInputs(Architecture):
    """An image, its depth and a number of steps."""

    contract = 1
    id = "guided"
    summary = "a network with several inputs"
    task = "image-to-image"
    input = InputSpec.of_parts(
        [
            InputPart("image", "rgb", (3, 16, 16)),
            InputPart("depth", "gray", (1, 16, 16)),
            InputPart("steps", "integer", (), 1, 5),
        ]
    )
    output = OutputSpec("rgb", 3, 1)

    def build(self) -> nn.Module:
        import torch
        from torch import nn

        class Guided(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(4, 3, 3, padding=1)

            def forward(self, image: torch.Tensor, depth: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
                assert steps.dtype == torch.int64
                return self.conv(torch.cat([image, depth], 1)).sigmoid() / steps[:, None, None, None]

        return Guided()


# ------------------------------------------------------------------------------------------------- dataset


@dataclass(frozen=True)
class DotsConfig:
    """Options of `dots`."""

    brightness: float = option(1.0, help="of the dots", minimum=0.0, maximum=1.0)


class Dots(Dataset):
    """Gray images with bright dots, whose places are the mask."""

    contract = 1
    id = "dots"
    summary = "gray images with bright dots"
    Config = DotsConfig
    tasks = frozenset({"segmentation"})

    def scenes(self, split: Split) -> Sequence[str]:
        return [f"{split}-{number}" for number in range(3)]

    def crops(self, architecture: Architecture, size: int, seed: int, start: int = 0) -> Iterator[Sample]:
        number = start
        while True:
            yield self.sample(f"train-{number % 3}", number, size, np.random.default_rng((seed, number)))
            number += 1

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        for number, scene in enumerate(self.scenes(split)):
            yield self.sample(scene, number, 64, np.random.default_rng((seed, *scene.encode())))

    def identity(self) -> str:
        return f"dots/1({self.config.brightness:g})"

    def sample(self, scene: str, number: int, size: int, rng: np.random.Generator) -> Sample:
        target = (rng.random((1, size, size)) < 0.1).astype(np.float32)
        noise = rng.random((1, size, size), dtype=np.float32)
        inputs = np.clip(target * np.float32(self.config.brightness) + noise / 4, 0, 1)
        return Sample(f"{scene}#{number}", scene, inputs.astype(np.float32), target)


# -------------------------------------------------------------------------------------------------- engine


class PlainSession:
    """ONNX Runtime without any of zoo's rewriting."""

    def __init__(self, data: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        self.inner = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: np.ndarray) -> np.ndarray:
        try:
            (outputs,) = self.inner.run(None, {self.inner.get_inputs()[0].name: np.ascontiguousarray(inputs)})
        except Exception as error:
            raise InputError("The model does not take this input.") from error
        return outputs


class Plain(Engine):
    """Another engine on ONNX Runtime."""

    contract = 1
    id = "plain"
    summary = "ONNX Runtime as it comes"

    def available(self) -> str | None:
        return None

    def version(self) -> str:
        return "1.0"

    def open(
        self, model: Path | bytes, *, threads: int = 0, profile: DeviceProfile | None = None
    ) -> PlainSession:
        data = read_model_bytes(model)
        check_onnx(data)
        return self.session(data, thread_count(threads, profile))

    def session(self, data: bytes, threads: int) -> PlainSession:
        try:
            return PlainSession(data, threads)
        except Exception as error:
            raise ZooError("ONNX Runtime does not load the model.") from error


# -------------------------------------------------------------------------------------------------- device

BOARD = DeviceProfile(
    id="my-board",
    summary="My Board 2 GB",
    memory_mb=2048,
    precisions=("int8", "float32"),
    engines=("onnxruntime",),
    power_modes=(5, 10),
    sources={"memory_mb": "data sheet", "precisions": "measured", "power_modes": "data sheet"},
)
