"""From an sRGB photograph back to the dark exposure a camera might have made of that scene.

The steps are those of Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019 (inverse tone
curve, inverse colour matrix, inverse gains), the noise that of Wei et al., CVPR 2020: shot, read, row, quantization.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.cameras import Camera, LogLinear
from zoo.raw.decode import RawFrame
from zoo.raw.noise import NoiseProfile
from zoo.raw.pack import Mosaic, colour_cell

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

#: linear sRGB (D65) to CIE XYZ, IEC 61966-2-1
_SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
#: variance of rounding to whole sensor units
_ROUNDING = 1 / 12


@dataclass(frozen=True)
class Shot:
    """How an exposure is made.

    Attributes:
        ratio: How many times too dark it is.
        gain: System gain K, sensor units per electron.
        red: White-balance gain of the scene's light.
        blue: White-balance gain of the scene's light.
    """

    camera: Camera
    ratio: float
    gain: float
    red: float
    blue: float


def draw_shot(rng: np.random.Generator, cameras: tuple[Camera, ...], ratios: tuple[float, float]) -> Shot:
    """Return a random camera, ratio (log-uniform in `ratios`), gain (log-uniform in the camera's range) and light."""
    camera = cameras[int(rng.integers(len(cameras)))]
    return Shot(
        camera=camera,
        ratio=float(np.exp(rng.uniform(*np.log(ratios)))),
        gain=float(np.exp(rng.uniform(*np.log(camera.gain_range)))),
        red=float(rng.uniform(*camera.red_gain)),
        blue=float(rng.uniform(*camera.blue_gain)),
    )


def colour_matrix(camera: Camera) -> npt.NDArray[np.float64]:
    """Return the matrix from XYZ to the camera's colours for D65, (3, 3)."""
    return np.array(camera.xyz_to_camera, dtype=np.float64).reshape(3, 3) / 10_000


def expose(linear: FloatArray, shot: Shot, rng: np.random.Generator, mosaic: Mosaic = "bayer") -> RawFrame:
    """Return the dark RAW exposure of a scene.

    Args:
        linear: (H, W, 3) linear sRGB in [0, 1], the scene as a correct exposure shows it; H and W are multiples of the
            mosaic's cell: 2 for Bayer, 6 for X-Trans.
        shot: How it is exposed.
        rng: Draws the noise.
        mosaic: The sensor's colour-filter array.
    """
    camera = shot.camera
    from_srgb = colour_matrix(camera) @ _SRGB_TO_XYZ
    from_srgb /= from_srgb.sum(axis=1, keepdims=True)  # white stays white once the gains are applied
    gains = (shot.red, 1.0, shot.blue)
    span = camera.white - camera.black
    electrons = np.empty(linear.shape[:2], dtype=np.float32)
    cell = colour_cell(mosaic)
    period = len(cell)
    for (row, column), index in np.ndenumerate(cell):
        colour = 1 if index == 3 else int(index)
        weights = (from_srgb[colour] * (span / (gains[colour] * shot.ratio * shot.gain))).astype(np.float32)
        electrons[row::period, column::period] = linear[row::period, column::period] @ weights
    signal = rng.poisson(np.maximum(electrons, 0)).astype(np.float32) * np.float32(shot.gain)
    noise, read = _read_noise(camera, shot.gain, signal.shape, rng)
    signal += noise
    banding = _scale(camera.row, shot.gain, rng)
    signal += rng.normal(0, banding, (signal.shape[0], 1)).astype(np.float32)
    values = np.clip(np.rint(signal + camera.black), 0, camera.white).astype(np.uint16)
    black, white = float(camera.black), float(camera.white)
    variance = (read + banding**2 + _ROUNDING) / span**2
    profile = NoiseProfile((shot.gain / span,) * 3, (variance,) * 3)
    to_srgb = tuple(np.linalg.inv(from_srgb).ravel().tolist())
    return RawFrame(values, cell, (black,) * 4, (white,) * 4, gains, noise=profile, to_srgb=to_srgb)


def _scale(law: LogLinear, gain: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.normal(law.slope * np.log(gain) + law.bias, law.sigma)))


def _read_noise(
    camera: Camera, gain: float, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[FloatArray, float]:
    """Tukey-lambda noise and its variance: ``scale * (u^s - (1-u)^s) / s`` for uniform u and shape s.

    The distribution is logistic at s = 0.
    """
    scale = _scale(camera.read, gain, rng)
    s = np.float32(camera.shapes[int(rng.integers(len(camera.shapes)))])
    u = np.clip(rng.random(shape, dtype=np.float32), 1e-6, 1 - 1e-6)
    noise = np.log(u / (1 - u)) if abs(s) < 1e-3 else (np.power(u, s) - np.power(1 - u, s)) / s
    return (np.float32(scale) * noise).astype(np.float32), scale**2 * _tukey_variance(float(s))


def _tukey_variance(s: float) -> float:
    """Return the variance of the Tukey-lambda distribution of scale 1 and shape s > -1/2."""
    if abs(s) < 1e-3:
        return math.pi**2 / 3
    return 2 / s**2 * (1 / (1 + 2 * s) - math.gamma(s + 1) ** 2 / math.gamma(2 * s + 2))
