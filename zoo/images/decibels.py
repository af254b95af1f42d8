"""Peak signal-to-noise ratio, with one definition for the whole project."""

from __future__ import annotations

import math

#: The PSNR of two equal images is infinite; it is reported as this many dB.
PSNR_CEILING = 100.0


def psnr(difference_squared: float) -> float:
    """Return the peak signal-to-noise ratio in dB for a mean squared error of values in [0, 1]."""
    return (
        PSNR_CEILING if difference_squared <= 0 else min(PSNR_CEILING, -10 * math.log10(difference_squared))
    )
