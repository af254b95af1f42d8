"""How long a network may compute that nobody vouches for: far longer than any that is what it seems.

The slowest honest ones take a hundred thousand multiplications for each number of their input, and the slowest boards
compute two thousand million in a second.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

from zoo.processes.time_limits import at_most

_SECONDS, _SECONDS_PER_NUMBER = 120, 1e-4
#: Bytes of a model that are read and prepared in a second, at least.
_BYTES_PER_SECOND = 2e6


def seconds_to_run(shape: Sequence[int]) -> float:
    """Return the seconds that computing an input of this shape may take, for the first time."""
    return _SECONDS + _SECONDS_PER_NUMBER * math.prod(shape)


def seconds_to_open(size: int, least: float = _SECONDS) -> float:
    """Return the seconds that an engine may take to load a model.

    Args:
        size: Bytes of the model.
        least: What the engine says that it may take for a small one.
    """
    return least + size / _BYTES_PER_SECOND


def running(shape: Sequence[int]) -> contextlib.AbstractContextManager[None]:
    """Limit the time of the body, which computes an input, where :func:`zoo.processes.time_limits.at_most` can."""
    return at_most(seconds_to_run(shape))


def opening(size: int) -> contextlib.AbstractContextManager[None]:
    """Limit the time of the body, which loads a model of so many bytes on the processor, as :func:`running` does."""
    return at_most(seconds_to_open(size))
