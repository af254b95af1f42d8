"""Inputs on which a network and its file are compared: small training crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zoo.contracts import Architecture, CropSize, Dataset, FloatArray

_PAIRS = 2
_SIDE = 64
_SEED = 104_729


def golden_inputs(
    dataset: Dataset, architecture: Architecture, crop: CropSize, seed: int
) -> list[FloatArray]:
    """Return small crops that training does not see, (1, C, H, W) each, in the file's range.

    Args:
        dataset: Where they come from.
        architecture: What they are for.
        crop: Size of the training crops, which these do not exceed.
        seed: Of the run.
    """
    spec = architecture.input
    size = crop if spec.fixed_size else _smaller(crop, max(spec.multiple_of, _SIDE))
    samples = dataset.crops(architecture, size, seed + _SEED)
    return [next(samples).inputs[None] for _ in range(_PAIRS)]


def comparison_inputs(
    dataset: Dataset, architecture: Architecture, crop: CropSize, seed: int
) -> list[FloatArray]:
    """Return :func:`golden_inputs`, and one of another size whose sides differ, where the network takes any size."""
    inputs = golden_inputs(dataset, architecture, crop, seed)
    multiple = architecture.input.multiple_of
    if not architecture.input.fixed_size:
        inputs.append(np.pad(inputs[0], ((0, 0), (0, 0), (0, multiple), (0, 2 * multiple)), mode="wrap"))
    return inputs


def _smaller(crop: CropSize, most: int) -> CropSize:
    return min(crop, most) if isinstance(crop, int) else (min(crop[0], most), min(crop[1], most))
