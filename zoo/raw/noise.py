"""The noise of a RAW frame: what the file states of it, and what is left of that after amplification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.raw.dng_tags import FrameTags

_NOISE_PROFILE = 51041
#: The variance of nothing but noise between black and white is a twelfth.
_MOST = 0.1


@dataclass(frozen=True)
class NoiseProfile:
    """The variance of a mosaic's values, ``shot * x + read`` for a mean of x, where black is 0 and white is 1.

    This is the DNG specification's NoiseProfile.

    Attributes:
        shot: Of red, green and blue.
        read: Of red, green and blue.
    """

    shot: tuple[float, float, float]
    read: tuple[float, float, float]


def read_noise_profile(tags: FrameTags) -> NoiseProfile | None:
    """Return what a DNG file states of its noise; None if that is nothing, or nothing that a sensor has.

    Raises:
        InputError: If the TIFF structure is damaged.
    """
    stated = tags.numbers(_NOISE_PROFILE)
    pairs = stated * 3 if len(stated) == 2 else stated  # one pair for all colours, or one for each
    return plausible_noise(pairs[::2], pairs[1::2]) if len(pairs) == 6 else None


def plausible_noise(shot: Sequence[float], read: Sequence[float]) -> NoiseProfile | None:
    """Return the noise profile of three variances each; None if they are not those of any sensor."""
    if len(shot) != 3 or len(read) != 3:
        return None
    if not all(0 <= value <= _MOST for value in (*shot, *read)) or not max(*shot, *read):
        return None  # this is also the way of what is not a number
    return NoiseProfile((shot[0], shot[1], shot[2]), (read[0], read[1], read[2]))


@dataclass(frozen=True)
class Amplified:
    """The deviations of noise after amplification and white balance, as a network is told them.

    Attributes:
        read: Of red, green and blue at black.
        shot: The square root of green's variance for each unit of light.
    """

    read: tuple[float, float, float]
    shot: float


def amplified(profile: NoiseProfile, gains: tuple[float, float, float], ratio: float) -> Amplified:
    """Return the noise of values that were multiplied with `ratio` and the white-balance gains."""
    red, green, blue = (
        gain * ratio * variance**0.5 for gain, variance in zip(gains, profile.read, strict=True)
    )
    return Amplified((red, green, blue), (gains[1] * ratio * profile.shot[1]) ** 0.5)
