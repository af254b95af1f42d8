"""What looks wrong about a RAW file that could still be right: it is developed, and said.

A file whose levels or white balance were altered decodes into another picture, and nothing in it contradicts that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.raw.dng_tags import FrameTags

#: The tags of a DNG file that hold its neutral color, as the camera sees it or as a point in the CIE diagram.
_AS_SHOT_NEUTRAL, _AS_SHOT_WHITE = 50728, 50729
#: Gains relative to green that daylight to candlelight ask of sensors, and the product of red's and blue's: what takes
#: more of one takes less of the other.
_GAINS, _PRODUCT = (0.4, 6.0), (1.3, 8.0)
#: Shares of the range between black and white, and of the pixels.
_BELOW, _ABOVE, _FEW = 0.03, 0.05, 0.002
#: Shares of the white level: black levels that are as good as none, and pixels that lie above such a level.
_NO_BLACK, _LIFTED = 0.005, 0.025
#: Rows or columns at a side, those further in that they are compared with, and by how much they must be darker.
_SIDE, _INWARDS, _DARKER = 2, 40, 0.05
#: Rows or columns of covered pixels that tell the black level, how much they vary at most, and how far off it may be.
_COVERED, _FLAT, _OFF = 8, 0.01, 0.015
#: White levels are a little below a power of two, and of the few beyond 14 bits most come with pixels to match.
_LOWEST_WHITE, _USUAL_BITS = 0.7, 14
#: How far gains may be from those that the file states, relative to them: it states them in few digits.
_UNLIKE = 0.03
#: Pixels that are looked at.
_EVERY = 8


def stated_neutral(tags: FrameTags) -> tuple[float, ...] | None:
    """Return the neutral color that a DNG file states, () for none; None if it states a point in the CIE diagram."""
    point = tags.of_file(_AS_SHOT_WHITE)
    return None if len(point) == 2 and all(0 < each < 1 for each in point) else tags.of_file(_AS_SHOT_NEUTRAL)


def doubts_about(
    mosaic: npt.NDArray[np.uint16],
    black: Sequence[float],
    white: Sequence[float],
    gains: Sequence[float],
    neutral: Sequence[float] | None,
    covered: npt.NDArray[np.uint16] | None = None,
) -> tuple[str, ...]:
    """Return a sentence for each thing that looks wrong.

    Args:
        mosaic: (H, W), in sensor units.
        black: Levels of the four colours.
        white: Levels of the four colours.
        gains: Of red, green and blue.
        neutral: As :func:`stated_neutral` returns it; None for files other than DNG.
        covered: (H, W'), pixels that light does not reach; None if the file does not say where those are.
    """
    low, high = min(black), max(white)
    return (
        *_of_levels(mosaic, low, high),
        *_of_sides(mosaic, low, high),
        *(() if covered is None else _of_covered(covered, low, high)),
        *_of_gains(gains, neutral),
    )


def _of_levels(mosaic: npt.NDArray[np.uint16], black: float, white: float) -> list[str]:
    import numpy as np

    sample = mosaic[::_EVERY, ::_EVERY] if min(mosaic.shape) > 64 * _EVERY else mosaic
    low, high = np.quantile(sample, (_FEW, 1 - _FEW))
    range_ = white - black
    found = []
    if low < black - _BELOW * range_:
        found.append(f"Many pixels lie below the stated black level of {black:g}, down to {low:g}.")
    if black < _NO_BLACK * white and low > _LIFTED * white:
        found.append(f"The stated black level is {black:g}, and no pixel is darker than {low:g}.")
    if high > white + _ABOVE * range_:
        found.append(f"Many pixels lie above the stated white level of {white:g}, up to {high:g}.")
    usual = 1 << _USUAL_BITS
    if white < _LOWEST_WHITE * (1 << int(white).bit_length()) or (white >= usual > high):
        found.append(f"The stated white level of {white:g} is unusual.")
    return found


def _of_sides(mosaic: npt.NDArray[np.uint16], black: float, white: float) -> list[str]:
    """Covered pixels that are shown: a side that is black beside light, over its whole length."""
    if min(mosaic.shape) < 4 * _INWARDS:
        return []
    found = []
    for name, side in (
        ("top", mosaic),
        ("bottom", mosaic[::-1]),
        ("left", mosaic.T),
        ("right", mosaic.T[::-1]),
    ):
        outer = float(side[:_SIDE].mean()) - black
        inner = float(side[_INWARDS : _INWARDS + _SIDE].mean()) - black
        if inner > (white - black) / 100 and outer < _DARKER * inner:
            found.append(f"Its {name} is black, as pixels are that the camera covers.")
    return found


def _of_covered(covered: npt.NDArray[np.uint16], black: float, white: float) -> list[str]:
    import numpy as np

    if covered.shape[1] < 2 * _COVERED:
        return []
    inside = covered[::_EVERY, _COVERED // 2 : -_COVERED // 2].astype(np.float32)
    level, range_ = float(np.median(inside)), white - black
    # Some cameras fill them with zeros, or with light.
    if level < black + _OFF * range_ or float(inside.std()) > _FLAT * range_:
        return []
    return [f"The stated black level is {black:g}, but covered pixels have {level:g}."]


def _of_gains(gains: Sequence[float], neutral: Sequence[float] | None) -> list[str]:
    shown = ", ".join(f"{gain:.3g}" for gain in gains)
    usual = all(_GAINS[0] <= gain <= _GAINS[1] for gain in gains)
    # Without a white balance all gains are 1.
    if not usual or not (_PRODUCT[0] <= gains[0] * gains[2] <= _PRODUCT[1] or tuple(gains) == (1, 1, 1)):
        return [f"The white balance is unusual: the gains of red, green and blue are {shown}."]
    if neutral is None:
        return []
    if not neutral:
        return [f"No white balance is stated; the gains of red, green and blue are {shown}."]
    # Converters make one channel 1, whichever, and only an altered one leaves a second at exactly 1.
    ones = [0.99 < each < 1.01 for each in neutral]
    odd = len(neutral) == 3 and (not any(ones) or list(neutral).count(1) == 2)
    implied = [neutral[1] / each if each else 0.0 for each in neutral] if len(neutral) == 3 else []
    unused = any(abs(gain - stated) > _UNLIKE * stated for gain, stated in zip(gains, implied, strict=False))
    if odd or unused or (gains[0] == 1) != (gains[2] == 1):
        return [f"The white balance is unusual: the gains of red, green and blue are {shown}."]
    return []
