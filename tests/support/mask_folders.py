"""Pictures with masks, and a folder of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(number: int, side: int = 48) -> np.ndarray:
    """Noise with a bright square; where it is depends on the number."""
    pixels = np.random.default_rng(number).integers(0, 100, (side, side), dtype=np.uint8)
    pixels[8 : 24 + number, 4:20] += 120
    return pixels


def label(number: int, side: int = 48) -> np.ndarray:
    return np.where(picture(number, side) >= 120, 255, 0).astype(np.uint8)


def write_folder(root: Path) -> None:
    """Ten pictures of PNG, called 0 to 9, and their labels."""
    for kind, make in (("images", picture), ("labels", label)):
        (root / kind).mkdir()
        for number in range(10):
            Image.fromarray(make(number)).save(root / kind / f"{number}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that :func:`write_folder` wrote."""
    write_folder(tmp_path)
    return tmp_path
