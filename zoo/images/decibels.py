"""Peak signal-to-noise ratio, as everything here counts it."""

from __future__ import annotations

import math

#: PSNR of two equal pictures is infinite; it is counted as this many dB.
PSNR_CEILING = 100.0


def psnr(difference_squared: float) -> float:
    """Peak signal-to-noise ratio in dB for a mean squared error of values in [0, 1]."""
    return (
        PSNR_CEILING if difference_squared <= 0 else min(PSNR_CEILING, -10 * math.log10(difference_squared))
    )
