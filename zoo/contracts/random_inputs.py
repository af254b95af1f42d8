"""Inputs of random numbers, for whatever needs some and has no data."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.contracts.architecture import InputSpec
    from zoo.contracts.dataset import FloatArray


def random_inputs(
    spec: InputSpec, batch: int = 1, sides: tuple[int, int] | None = None, *, seed: int = 0
) -> FloatArray:
    """Return inputs of random numbers that a network could be given, (N, C, H, W); always the same for a seed.

    Args:
        spec: The input of the network.
        batch: N.
        sides: H and W; None for those of the example.
        seed: Of the numbers.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    if not spec.parts:
        return draw.random((batch, spec.channels, *(sides or spec.example)), dtype=np.float32)
    packing = spec.packing
    arrays = []
    for part in spec.parts:
        image = packing.planes and part.has_sides
        shape = (batch, *part.shape[:-2], *(sides or part.shape[-2:])) if image else (batch, *part.shape)
        if part.kind == "integer":
            arrays.append(draw.integers(int(part.low), int(part.high) + 1, shape).astype(np.float32))
        else:
            arrays.append(part.low + (part.high - part.low) * draw.random(shape, dtype=np.float32))
    return packing.pack(arrays)
