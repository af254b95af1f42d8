"""Telling a picture from what LibRaw makes of a damaged file without a word: zeros, repetitions, garbage.

Each test is one that no exposure fails, however dark, noisy or bright; what passes them may still be damaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Mosaic = npt.NDArray[np.uint16]

DAMAGED = "Copy it from the camera again; this copy is incomplete or damaged."
_BLOCK = 16
#: Noise of uniform numbers has a deviation of 0.29 of its range; that of no exposure comes near it.
_LARGEST_DEVIATION = 0.2
_LEAST_CORRELATION = 0.05
_SAMPLED_ROWS = 64
#: Deviation of the means of a cell's pixels from which their colours show, and how much of its square is left within
#: colours that are somewhere else, and within those that are there.
_SPREAD, _UNEXPLAINED, _EXPLAINED = 0.1, 0.5, 0.1
#: Pixels that are looked for in the rows before, and how many different values make them unmistakable.
_PROBE, _ROWS_BACK, _FEWEST_VALUES = 64, 16, 16


def check_picture(
    mosaic: Mosaic, pattern: npt.NDArray[np.int64], black: Sequence[float], white: Sequence[float], name: str
) -> None:
    """Check the levels and the pixels of a mosaic.

    Args:
        mosaic: (H, W).
        pattern: (2, 2) or (6, 6), indices of colours.
        black: Levels of the four colours.
        white: Levels of the four colours.
        name: Of the file, for messages.

    Raises:
        InputError: The levels leave no signal, or no sensor makes such pixels.
    """
    import numpy as np

    if not all(0 <= low < high for low, high in zip(black, white, strict=True)):
        raise InputError(
            f"{name} has absurd levels: black {_listed(black)}, white {_listed(white)}.", hint=DAMAGED
        )
    brightest = int(mosaic.max())
    if brightest == 0:
        raise InputError(f"{name} holds only zeros; it is truncated or damaged.", hint=DAMAGED)
    if brightest <= min(black):
        raise InputError(
            f"{name} holds no signal: its brightest pixel is {brightest}, its black level {_listed(black)}.",
            hint="Was the lens covered? If not, the file is damaged.",
        )
    # Cameras go a little beyond the white level that they state, for a few pixels even far.
    if brightest > 2 * max(white) and np.count_nonzero(mosaic > 2 * max(white)) > 0.01 * mosaic.size:
        raise InputError(
            f"{name} has absurd levels: its pixels go up to {brightest}, its white level is {_listed(white)}.",
            hint=DAMAGED,
        )
    # With a black level above zero, noise does not bring a whole block to exactly zero; missing data does.
    missing = _empty_blocks(mosaic) if min(black) > 0 else 0.0
    if missing > 0.001:
        raise InputError(
            f"{name} is truncated or damaged: {math.ceil(missing * 100)} % of its image is empty.",
            hint=DAMAGED,
        )
    if _ends_in_noise(mosaic, len(pattern), max(white) - min(black)):
        raise InputError(f"{name} is damaged: its pixels are noise, not an image.", hint=DAMAGED)
    if _end_repeats(mosaic):
        raise InputError(
            f"{name} is truncated or damaged: the end of its image only repeats what is above.",
            hint=DAMAGED,
        )
    elsewhere = _greens_lie_elsewhere if len(pattern) == 2 else _colours_lie_elsewhere
    if elsewhere(mosaic, pattern, black, white):
        raise InputError(
            f"{name} is damaged: its green pixels are not where its colour-filter array says.", hint=DAMAGED
        )


def _empty_blocks(mosaic: Mosaic) -> float:
    """Return the share of 16 x 16 blocks that hold only zeros."""
    height, width = (side - side % _BLOCK for side in mosaic.shape)
    blocks = mosaic[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    return 1.0 - float(blocks.any(axis=(1, 3)).mean())


def _ends_in_noise(mosaic: Mosaic, period: int, range_: float) -> bool:
    """Return whether the last quarter varies strongly, and no pixel is correlated with those next to and below it.

    A decoder that goes astray does not find back, so that its garbage reaches the end.
    """
    import numpy as np

    first, last = mosaic.shape[0] * 3 // 4, mosaic.shape[0] - period
    rows = np.arange(first, last, max(period, (last - first) // _SAMPLED_ROWS))
    if len(rows) == 0 or mosaic.shape[1] < 2 * _PROBE:
        return False
    # one colour alone
    here, below = (mosaic[at, ::period].astype(np.float32) for at in (rows, rows + period))
    variance = float(here.var())
    if math.sqrt(variance) < _LARGEST_DEVIATION * range_:
        return False
    beside = float(np.square(here[:, 1:] - here[:, :-1]).mean())
    under = float(np.square(here - below).mean())
    return all(abs(1 - each / (2 * variance)) < _LEAST_CORRELATION for each in (beside, under))


def _end_repeats(mosaic: Mosaic) -> bool:
    """Return whether the last pixels occurred just before, at other columns: some decoders go round in the last data.

    Noise makes the same pixels come again impossible, unless the sensor is saturated there. Rows that are equal
    column by column are those of a drawing, not of a decoder.
    """
    import numpy as np

    width = mosaic.shape[1]
    if width < 2 * _PROBE:
        return False
    probe, rows = mosaic[-1, -_PROBE:], mosaic[-1 - _ROWS_BACK : -1]
    if len(np.unique(probe)) < _FEWEST_VALUES:
        return False
    places = np.argwhere(rows[:, : width - _PROBE] == probe[0])
    for offset in range(1, _PROBE):
        if len(places) == 0:
            return False
        places = places[rows[places[:, 0], places[:, 1] + offset] == probe[offset]]
    return len(places) > 0


def _greens_lie_elsewhere(
    mosaic: Mosaic, pattern: npt.NDArray[np.int64], black: Sequence[float], white: Sequence[float]
) -> bool:
    """Return whether the two pixels of a cell that are said to be green differ, while the two others are alike.

    The means of the two greens agree to a few per cent, whatever the scene.
    """
    means: dict[bool, list[float]] = {True: [], False: []}
    for row in range(2):
        for column in range(2):
            colour = int(pattern[row, column])
            level = float(mosaic[row :: 2 * _BLOCK, column::2].mean()) - black[colour]
            if level < 0.02 * (white[colour] - black[colour]):
                return False  # too dark to tell
            means[colour in (1, 3)].append(level)
    greens, others = means[True], means[False]
    return max(greens) > 1.25 * min(greens) and max(others) < 1.05 * min(others)


def _colours_lie_elsewhere(
    mosaic: Mosaic, pattern: npt.NDArray[np.int64], black: Sequence[float], white: Sequence[float]
) -> bool:
    """Return whether the pixels of a large cell differ by colours, but by those of a cell that begins elsewhere.

    The means of the pixels of one colour agree to a few per cent, whatever the scene.
    """
    import numpy as np

    side = len(pattern)
    rows = [mosaic[row :: _BLOCK * side] for row in range(side)]
    means = np.array([[float(each[:, column::side].mean()) for column in range(side)] for each in rows])
    means -= np.array(black)[pattern]
    if means.min() < 0.02 * (min(white) - max(black)):
        return False  # too dark to tell
    means /= means.mean()
    variance = float(means.var())
    if variance < _SPREAD**2:
        return False

    def unexplained(colours: npt.NDArray[np.int64]) -> float:
        groups = [means[where] for where in ((colours == 1) | (colours == 3), colours == 0, colours == 2)]
        return sum(float(np.square(group - group.mean()).sum()) for group in groups) / means.size / variance

    shifts = [(row, column) for row in range(side) for column in range(side)]
    best = min(unexplained(np.roll(pattern, shift, (0, 1))) for shift in shifts)
    return unexplained(pattern) > _UNEXPLAINED and best < _EXPLAINED


def _listed(levels: Sequence[float]) -> str:
    """Return one number if all are equal, else all of them."""
    return "/".join(f"{level:g}" for level in dict.fromkeys(levels))
