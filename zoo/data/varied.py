"""Cameras that nobody calibrated: variations of :mod:`zoo.data.cameras`, for networks that serve every camera."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data.cameras import CAMERAS, Camera, LogLinear
from zoo.raw.noise import NoiseProfile

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.raw.decode import RawFrame

#: A phone's sensor: ten bits, and the noise that Wang et al., "Practical Deep Raw Image Denoising on Mobile Devices",
#: ECCV 2020, calibrated (a deviation of 1.7 at a gain of 0.97 near ISO 1600).
_PHONE: dict[str, Any] = {
    "black": 64,
    "white": 1023,
    "gain_range": (0.04, 4.0),
    "shapes": (0.14,),
    "read": LogLinear(0.7, math.log(0.55), 0.3),
    "row": LogLinear(0.7, math.log(0.1), 0.4),
}
_PHONES, _WITH_HOT_PIXELS = 0.3, 0.2
#: More photons than this are drawn from a normal distribution.
_MANY = 30


class QuickGenerator(np.random.Generator):
    """Draws large numbers of photons in a fifth of the time, from a normal distribution."""

    def poisson(self, lam: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:  # type: ignore[override]
        counts = np.sqrt(lam) * self.standard_normal(lam.shape, dtype=np.float32)
        counts = np.rint(counts + lam)
        few = lam < _MANY
        if few.any():
            counts[few] = super().poisson(lam[few])
        return np.asarray(counts, dtype=np.float32)


def quick_generator(*seed: int) -> np.random.Generator:
    """Return a generator whose numbers depend on the seed alone."""
    return QuickGenerator(np.random.PCG64(seed))


def vary_camera(camera: Camera, rng: np.random.Generator) -> Camera:
    """Return a camera with a mixture of two colour matrices, and other read noise and banding; sometimes a phone."""
    other, share = CAMERAS[int(rng.integers(len(CAMERAS)))], rng.random()
    mixed = [
        round(share * a + (1 - share) * b)
        for a, b in zip(camera.xyz_to_camera, other.xyz_to_camera, strict=True)
    ]
    if rng.random() < _PHONES:
        camera = replace(camera, **_PHONE)
    louder = rng.normal(0, 0.4)
    read = replace(camera.read, bias=camera.read.bias + louder)
    row = replace(camera.row, bias=camera.row.bias + louder + rng.normal(-0.3, 0.5))
    matrix: Any = tuple(mixed)
    return replace(camera, xyz_to_camera=matrix, read=read, row=row)


def spoil(frame: RawFrame, rng: np.random.Generator) -> RawFrame:
    """Return a frame with hot and dead pixels, in one of five, and with a noise profile as inexact as in files."""
    mosaic = frame.mosaic
    if rng.random() < _WITH_HOT_PIXELS:
        mosaic = mosaic.copy()
        hit = rng.random(mosaic.shape) < 10 ** rng.uniform(-5, -3)
        mosaic[hit] = rng.integers(round(min(frame.black)), round(max(frame.white)), int(hit.sum()))
    noise = frame.noise
    if noise is not None:
        shot, read = (float(factor) for factor in np.exp(rng.normal(0, 0.2, 2)))
        noise = NoiseProfile(_times(noise.shot, shot), _times(noise.read, read))
    return replace(frame, mosaic=mosaic, noise=noise)


def _times(values: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    red, green, blue = (value * factor for value in values)
    return red, green, blue
