"""What ranges of activations are observed on and layers are fitted to, from a stream that training does not see."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.contracts import Architecture, CropSize, Dataset, Sample

#: Batches that a recipe calibrates with.
CALIBRATION_BATCHES = 8
#: Small images are calibrated on in larger numbers: with as many pixels as crops of this side have.
_SIDE = 128
#: Of one batch.
_MOST = 64
_SEED = 7_919


def calibration_crops(
    dataset: Dataset, architecture: Architecture, size: CropSize, seed: int, count: int
) -> Iterator[Sample]:
    """Return the first `count` samples for calibration, of a size where the data is cut, chosen by `seed`."""
    return islice(dataset.calibration(architecture, size, seed + _SEED), count)


def calibration_batch(architecture: Architecture, batch: int) -> int:
    """Return how many images each of the CALIBRATION_BATCHES has.

    Args:
        architecture: The network.
        batch: Size of a training batch, of which calibration takes at least as many.
    """
    if architecture.output.kind != "logits":
        return batch
    height, width = architecture.input.example
    return max(batch, min(_MOST, batch * _SIDE * _SIDE // (height * width)))
