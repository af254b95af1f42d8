"""Several inputs travel as one array, and come out of it as they went in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.contracts import InputPart, InputSpec
from zoo.contracts.input_parts import Packing, packing_of_file
from zoo.contracts.random_inputs import random_inputs
from zoo.errors import InputError

SHAPES = st.lists(st.integers(1, 5), max_size=4).map(tuple)
LEFT = InputPart("left", "rgb", (3, 8, 12))
DEPTH = InputPart("depth", "gray", (1, 8, 12))
LENGTH = InputPart("length", "integer", (), 1, 9)
PAIR = InputSpec.of_parts([LEFT, DEPTH, LENGTH])


@settings(max_examples=60, deadline=None)
@given(st.lists(SHAPES, min_size=1, max_size=4), st.integers(1, 3))
def test_what_is_packed_is_unpacked_in_numpy_and_in_torch(shapes: list[tuple[int, ...]], batch: int) -> None:
    draw = np.random.default_rng(0)
    arrays = [draw.random((batch, *shape), dtype=np.float32) for shape in shapes]
    packing = Packing(shapes)
    packed = packing.pack(arrays)
    assert packed.shape == (batch, packing.channels, *packing.sides)
    assert [tuple(each) for each in packing.shapes_of(packed.shape)] == [array.shape for array in arrays]
    for array, found, tensor in zip(
        arrays, packing.unpack(packed), packing.unpack(torch.from_numpy(packed)), strict=True
    ):
        assert np.array_equal(array, found)
        assert np.array_equal(array, tensor.numpy())
    assert packing.planes == (
        len({shape[-2:] for shape in shapes if len(shape) > 2}) == 1
        and sum(math.prod(shape[:-2] if len(shape) > 2 else shape) for shape in shapes) <= 1024
    )


def test_images_of_one_size_may_be_cropped_and_images_of_two_sizes_are_fixed() -> None:
    assert (PAIR.channels, PAIR.example, PAIR.fixed_size) == (5, (8, 12), False)
    packed = random_inputs(PAIR, 2, (4, 6))
    left, depth, length = PAIR.packing.unpack(packed)
    assert (left.shape, depth.shape, length.shape) == ((2, 3, 4, 6), (2, 1, 4, 6), (2,))
    assert set(length) <= set(range(1, 10))
    two = InputSpec.of_parts([LEFT, InputPart("search", "rgb", (3, 16, 16))])
    assert (two.channels, two.example, two.fixed_size) == (1, (2, 1024), True)


def test_a_file_shows_how_its_inputs_are_packed() -> None:
    assert packing_of_file([["batch", 3, "height", "width"]]) is None
    found = packing_of_file([["batch", 3, "height", "width"], ["batch", 1, "height", "width"], ["batch"]])
    assert found is not None
    assert (found.planes, found.channels, found.sides) == (True, 5, (None, None))


def test_images_may_be_bytes_with_their_channels_last() -> None:
    left = np.random.default_rng(0).integers(0, 256, (1, 8, 12, 3), dtype=np.uint8)
    packed = PAIR.pack({"left": left, "depth": np.zeros((1, 1, 8, 12)), "length": np.array([3])})
    assert np.allclose(packed[0, :3], left[0].transpose(2, 0, 1) / 255)
    assert (packed[0, 4] == 3).all()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((np.zeros((1, 3, 8, 12)), np.zeros((1, 1, 8, 12))), "2 inputs for a network with 3"),
        ({"left": np.zeros((1, 3, 8, 12)), "right": np.zeros((1, 1, 8, 12))}, "expects 'left', 'depth', 'length'"),
        ((np.zeros((1, 3, 8, 12)), np.zeros((1, 2, 8, 12)), np.ones(1)), "'depth' has the shape 1x2x8x12"),
        ((np.zeros((1, 3, 8, 12)), np.zeros((1, 1, 4, 4)), np.ones(1)), "the same for all images"),
        ((np.zeros((1, 3, 8, 12)), np.zeros((1, 1, 8, 12)), np.array([1.5])), "'length' is of whole numbers"),
        ((np.full((1, 3, 8, 12), np.nan), np.zeros((1, 1, 8, 12)), np.ones(1)), "'left' contains NaN"),
        ((np.zeros((2, 3, 8, 12)), np.zeros((1, 1, 8, 12)), np.ones(2)), "not one of each input per sample"),
    ],
)  # fmt: skip
def test_inputs_that_are_not_what_the_network_expects_are_refused_by_name(inputs: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        PAIR.pack(inputs)  # type: ignore[arg-type]
