"""The curve on which networks that know the noise see sensor values, and the planes that tell them of it.

A value x, amplified and white-balanced, becomes ``asinh(x / knee) / asinh(1 / KNEE)``: nearly linear below the knee,
nearly logarithmic above it, and odd, so that noise below black stays what it is. The knee lies at `KNEE`, or higher
where the noise is larger than that: the noise of a dark frame is then averaged on the linear part of the curve, where
its mean is the light (a variance-stabilising transform has the same aim; Wang et al., "Practical Deep Raw Image
Denoising on Mobile Devices", ECCV 2020, bring all noise to one level for it). Networks answer on the curve of `KNEE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.raw.noise import Amplified

    FloatArray = npt.NDArray[np.float32]

#: Of the curve of noise-free values; 1 is white.
KNEE = 0.05
#: Channels after those of the mosaic: the noise of red, green and blue at black, and the shot noise of green.
NOISE_PLANES = 4
#: What is farther from black is cut off: more is either a lamp or an outlier of the noise.
LOWEST, HIGHEST = -1.0, 1.25
_SPAN = float(np.arcsinh(1 / KNEE))
#: The knee in deviations of green's noise at black.
_KNEE_OF_NOISE = 0.7
#: Deviations at which the planes are near 0 and at 1.
_FAINT, _STRONG = 0.001, 4.0


def noise_planes(noise: Amplified) -> FloatArray:
    """Return the values of the noise planes, (NOISE_PLANES,) in [0, 1]."""
    deviations = np.array((*noise.read, noise.shot))
    levels = np.log1p(deviations / _FAINT) / np.log1p(_STRONG / _FAINT)
    return np.asarray(np.clip(levels, 0, 1), dtype=np.float32)


def knee_of(noise: Amplified) -> float:
    """Return the knee of the curve for values with this noise."""
    return float(np.hypot(KNEE, _KNEE_OF_NOISE * noise.read[1]))


def encode(values: npt.NDArray[np.float32], knee: float = KNEE) -> FloatArray:
    """Return amplified values, (...,) of any shape, on the curve."""
    curve = np.arcsinh(values * np.float32(1 / knee)) * np.float32(1 / _SPAN)
    return np.asarray(np.clip(curve, LOWEST, HIGHEST), dtype=np.float32)


def decode(values: npt.NDArray[np.float32]) -> FloatArray:
    """Return the linear values of a network's answer, (...,) of any shape: the inverse of :func:`encode`."""
    return np.asarray(np.sinh(values * np.float32(_SPAN)) * np.float32(KNEE), dtype=np.float32)
