"""What looks wrong about a RAW file that could still be right: it is developed, and said.

A file whose levels or white balance were altered decodes into another picture, and nothing in it contradicts that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: The tags of a DNG file that hold its neutral color, as the camera sees it or as a point in the CIE diagram.
AS_SHOT_NEUTRAL, AS_SHOT_WHITE = 50728, 50729
#: Gains relative to green that daylight to candlelight ask of sensors.
_GAINS = (0.4, 6.0)
#: Shares of the range between black and white, and of the pixels.
_BELOW, _ABOVE, _FEW = 0.03, 0.05, 0.002
#: How far gains may be from those that the file states, relative to them: it states them in few digits.
_UNLIKE = 0.03
#: Pixels that are looked at.
_EVERY = 8


def doubts_about(
    mosaic: npt.NDArray[np.uint16],
    black: Sequence[float],
    white: Sequence[float],
    gains: Sequence[float],
    neutral: Sequence[float] | None,
) -> tuple[str, ...]:
    """Return a sentence for each thing that looks wrong.

    Args:
        mosaic: (H, W), in sensor units.
        black: Levels of the four colours.
        white: Levels of the four colours.
        gains: Of red, green and blue.
        neutral: What a DNG file states in the tag AS_SHOT_NEUTRAL, () for nothing; None for other files,
            and for those that state AS_SHOT_WHITE instead.
    """
    return (*_of_levels(mosaic, min(black), max(white)), *_of_gains(gains, neutral))


def _of_levels(mosaic: npt.NDArray[np.uint16], black: float, white: float) -> list[str]:
    import numpy as np

    sample = mosaic[::_EVERY, ::_EVERY] if min(mosaic.shape) > 64 * _EVERY else mosaic
    low, high = np.quantile(sample, (_FEW, 1 - _FEW))
    range_ = white - black
    found = []
    if low < black - _BELOW * range_:
        found.append(f"Many pixels lie below the stated black level of {black:g}, down to {low:g}.")
    if black == 0 and low > _ABOVE * range_:
        found.append(f"No black level is stated, and no pixel is darker than {low:g}.")
    if high > white + _ABOVE * range_:
        found.append(f"Many pixels lie above the stated white level of {white:g}, up to {high:g}.")
    return found


def _of_gains(gains: Sequence[float], neutral: Sequence[float] | None) -> list[str]:
    shown = ", ".join(f"{gain:.3g}" for gain in gains)
    if not all(_GAINS[0] <= gain <= _GAINS[1] for gain in gains):
        return [f"The white balance is unusual: the gains of red, green and blue are {shown}."]
    if neutral is None:
        return []
    if not neutral:
        return [f"No white balance is stated; the gains of red, green and blue are {shown}."]
    # Converters make one channel 1, whichever, and only an altered one leaves a second at exactly 1.
    odd = len(neutral) == 3 and not any(0.99 < each < 1.01 for each in neutral)
    implied = [neutral[1] / each if each else 0.0 for each in neutral] if len(neutral) == 3 else []
    unused = any(abs(gain - stated) > _UNLIKE * stated for gain, stated in zip(gains, implied, strict=False))
    if odd or unused or (gains[0] == 1) != (gains[2] == 1):
        return [f"The white balance is unusual: the gains of red, green and blue are {shown}."]
    return []
