"""Orders of images, and training crops of those that are in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from zoo.contracts import Sample
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.contracts import FloatArray


def shuffled(count: int, seed: int, start: int = 0) -> Iterator[int]:
    """Yield numbers below `count` without end, each once before one comes again, in an order that depends on the seed.

    Args:
        count: How many numbers there are.
        seed: Number k of the sequence depends only on (seed, k).
        start: The number in the sequence that is first.
    """
    visit, position = divmod(start, count)
    while True:
        order = np.random.default_rng((seed, 1, visit)).permutation(count)
        yield from map(int, order[position:])
        visit, position = visit + 1, 0


def random_window(
    sample: Sample, size: int, scale: int, multiple: int, number: int, rng: np.random.Generator
) -> Sample:
    """Return a window of `size` x `size` input pixels at a random place, flipped and transposed at random.

    Args:
        sample: The image to cut from.
        size: Side of the window in input pixels.
        rng: The source of the choices.
        scale: Target pixels per input pixel along each side.
        number: Becomes part of the name.
        multiple: What a crop must be a multiple of, for the hint.

    Raises:
        UsageError: The sample is smaller than the window.
    """
    assert sample.target is not None
    height, width = (
        min(s, t // scale) for s, t in zip(sample.inputs.shape[1:], sample.target.shape[1:], strict=True)
    )
    if min(height, width) < size:
        most = min(height, width) // multiple * multiple
        raise UsageError(
            f"{sample.name} with {width}x{height} pixels is smaller than a crop of {size}.",
            hint=f"Use --crop {most}" if most else f"This network needs sides of at least {multiple} pixels.",
        )
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    inputs = sample.inputs[:, top : top + size, left : left + size]
    target = sample.target[:, top * scale : (top + size) * scale, left * scale : (left + size) * scale]
    return Sample(f"{sample.name}#{number}", sample.scene, *_turned(inputs, target, rng), sample.to_srgb)


def _turned(
    inputs: FloatArray, target: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    for axis in (1, 2):
        if rng.random() < 0.5:
            inputs, target = np.flip(inputs, axis), np.flip(target, axis)
    if rng.random() < 0.5:
        inputs, target = inputs.transpose(0, 2, 1), target.transpose(0, 2, 1)
    return np.ascontiguousarray(inputs), np.ascontiguousarray(target)
