"""Small pairs of images, and specs of networks that make images of images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from zoo.contracts import Architecture, InputSpec, OutputSpec


class Restorer(Architecture):
    """Specs of a network that makes an image of an image; it is never built."""

    id = "a-restorer"
    task = "image-to-image"

    def __init__(self, kind: Literal["rgb", "gray"] = "rgb", scale: int = 1) -> None:
        super().__init__()
        channels = 3 if kind == "rgb" else 1
        self.input = InputSpec(kind, channels, multiple_of=4, example=(32, 32))
        self.output = OutputSpec(kind, channels, scale)


def write_pairs(root: Path, count: int = 12, scale: int = 1) -> None:
    """Write inputs of 48x40 pixels and targets, `scale` times as large, to the folders input and target."""
    for folder in ("input", "target"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"input/{number}.png")
        large = (255 - pixels).repeat(scale, 0).repeat(scale, 1)
        Image.fromarray(large).save(root / f"target/{number}.png")
