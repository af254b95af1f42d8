"""Unlabelled crops for compressing any image network against itself."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from zoo.architectures.unet import UNetArchitecture
from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.data.photos import Photos
from zoo.errors import UsageError


class Classifier(Architecture):
    id = "a-classifier"
    task = "classification"
    input = InputSpec("rgb", 3, example=(48, 64), fixed_size=True)
    output = OutputSpec("logits", 10)


def test_crops_are_reproducible_and_in_range() -> None:
    crops = list(islice(Photos().crops(Classifier(), 32, seed=2), 5))
    again = next(Photos().crops(Classifier(), 32, seed=2, start=3))
    assert np.array_equal(crops[3].inputs, again.inputs)
    for crop in crops:
        assert crop.target is None
        assert crop.inputs.shape == (3, 32, 32)
        assert crop.inputs.dtype == np.float32
        assert crop.inputs.min() >= 0
        assert crop.inputs.max() <= 1


def test_frames_have_the_size_the_network_takes_and_come_from_their_split() -> None:
    dataset = Photos()
    frames = list(dataset.frames(Classifier(), "test"))
    assert {frame.scene for frame in frames} == set(dataset.scenes("test"))
    assert all(frame.inputs.shape == (3, 48, 64) for frame in frames)
    assert not set(dataset.scenes("test")) & set(dataset.scenes("train"))


def test_a_net_for_raw_files_is_refused() -> None:
    with pytest.raises(UsageError, match="packed-raw"):
        next(Photos().crops(UNetArchitecture(), 32, seed=0))
