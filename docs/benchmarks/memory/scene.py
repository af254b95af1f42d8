"""Synthetic exposures as DNG files, which need no camera's file: smooth light with shot and read noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.raw.decode import RawFrame
from zoo.raw.dng import dng_bytes

#: Rows and columns of the mosaic by what one calls them.
SIZES = {"1 MP": (832, 1248), "6 MP": (2000, 3000), "24 MP": (4000, 6000)}
_BLACK, _WHITE = 512, 16383
_MATRIX = np.array([[0.6461, -0.1164, -0.0857], [-0.3825, 1.1597, 0.2534], [-0.0416, 0.1540, 0.6]])


def scene(height: int, width: int, seed: int = 0) -> RawFrame:
    """A dark Bayer frame of so many pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    light = np.zeros((height, width), np.float32)
    for down, across, phase in rng.normal(0, (0.01, 0.01, 3), (12, 3)):
        light += np.sin(down * rows + across * columns + phase)
    light = (light - light.min()) / (light.max() - light.min())
    noisy = rng.poisson(20 + 180 * light**2) + rng.normal(_BLACK, 6, light.shape)
    mosaic = np.clip(noisy, 0, _WHITE).astype(np.uint16)
    return RawFrame(mosaic, np.array([[0, 1], [3, 2]]), (_BLACK,) * 4, (_WHITE,) * 4, (2.0, 1.0, 1.5))


def write_scene(folder: Path, size: str) -> Path:
    """The DNG file of a scene of one of SIZES; made once."""
    path = folder / f"{size.replace(' ', '').lower()}.dng"
    if not path.exists():
        path.write_bytes(dng_bytes(scene(*SIZES[size]), xyz_to_camera=_MATRIX))
    return path
