"""The crops that ranges of activations are observed on, from a stream that training does not see."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.contracts import Architecture, Dataset, Sample

#: Batches that a recipe calibrates with.
CALIBRATION_BATCHES = 8
_SEED = 7_919


def calibration_crops(
    dataset: Dataset, architecture: Architecture, side: int, seed: int, count: int
) -> Iterator[Sample]:
    """Return the first `count` samples for calibration, `side` pixels wide where the data is cut, chosen by `seed`."""
    return islice(dataset.calibration(architecture, side, seed + _SEED), count)
