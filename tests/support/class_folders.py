"""Small labelled pictures in folders of classes, or next to a table of labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.contracts import Architecture, InputSpec, OutputSpec

NAMES = ("bee", "cow", "emu")


class Classifier(Architecture):
    """Specs of a classifier for any number of classes; it is never built."""

    id = "a-classifier"
    task = "classification"

    def __init__(self, classes: int = 3, side: int = 32, **changes: object) -> None:
        super().__init__()
        self.input = InputSpec("rgb", 3, example=(side, side), fixed_size=True, **changes)
        self.output = OutputSpec("logits", classes)


def write_picture(path: Path, number: int, width: int = 40, height: int = 32) -> None:
    """Write noise that depends on the number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_classes(root: Path, names: Iterable[str] = NAMES, count: int = 10) -> None:
    """Write `count` pictures, 0.png and so on, in a folder for each class."""
    for label, name in enumerate(names):
        for number in range(count):
            write_picture(root / name / f"{number}.png", 100 * label + number)
