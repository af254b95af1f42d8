"""Orders of images, and training crops of those that are in memory as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from zoo.contracts import Sample, sides_of
from zoo.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import CropSize

Member = TypeVar("Member")


def for_training(members: Sequence[Member], dataset: str) -> Sequence[Member]:
    """Return the members of a training split.

    Raises:
        InputError: There are none.
    """
    if not members:
        raise InputError(
            f"{dataset} has no images for training.", hint="Hold fewer out: test_share, val_share."
        )
    return members


def drawn(
    members: Sequence[Member], seed: int, start: int = 0
) -> Iterator[tuple[int, Member, np.random.Generator]]:
    """Yield crop numbers without end, each with a random member and the generator for the rest of the crop.

    Args:
        members: What is drawn from.
        seed: Draw k depends only on (seed, k).
        start: The number of the first draw.
    """
    for number in itertools.count(start):
        rng = np.random.default_rng((seed, number))
        yield number, members[int(rng.integers(len(members)))], rng


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
    sample: Sample, size: CropSize, scale: int, multiple: int, number: int, rng: np.random.Generator
) -> Sample:
    """Return a window at a random place, flipped and, if it is a square, transposed at random.

    Args:
        sample: The image to cut from; its target has the shape (..., scale*H, scale*W), or there is none.
        size: Of the window in input pixels.
        rng: The source of the choices.
        scale: Target pixels per input pixel along each side.
        number: Becomes part of the name.
        multiple: What a crop must be a multiple of, for the hint.

    Raises:
        UsageError: The sample is smaller than the window.
    """
    target = sample.target
    sides = [sample.inputs.shape[1:]]
    if target is not None:
        sides.append((target.shape[-2] // scale, target.shape[-1] // scale))
    height, width = map(min, zip(*sides, strict=True))
    rows, columns = sides_of(size)
    if height < rows or width < columns:
        most = min(height, width) // multiple * multiple
        raise UsageError(
            f"{sample.name} with {width}x{height} pixels is smaller than a crop of {columns}x{rows}.",
            hint=f"Use --crop {most}" if most else f"This network needs sides of at least {multiple} pixels.",
        )
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    inputs = sample.inputs[:, top : top + rows, left : left + columns]
    if target is not None:
        target = target[..., top * scale : (top + rows) * scale, left * scale : (left + columns) * scale]
    axes = [axis for axis in (-2, -1) if rng.random() < 0.5]
    transposed = rng.random() < 0.5 and rows == columns
    return Sample(
        f"{sample.name}#{number}",
        sample.scene,
        _turned(inputs, axes, transposed),
        None if target is None else _turned(target, axes, transposed),
        sample.to_srgb,
    )


def _turned(image: npt.NDArray[Any], axes: Sequence[int], transposed: bool) -> npt.NDArray[Any]:
    for axis in axes:
        image = np.flip(image, axis)
    return np.ascontiguousarray(image.swapaxes(-1, -2) if transposed else image)
