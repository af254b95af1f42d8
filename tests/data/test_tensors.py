"""Arrays in files: which forms are read, how they are split, and which are refused before any work."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.boxed_images import Detector
from support.class_folders import Classifier
from support.image_pairs import Restorer
from zoo.contracts import Architecture, OutputSpec
from zoo.data.choose import open_dataset
from zoo.data.tensors import Tensors, TensorsConfig
from zoo.errors import InputError, UsageError


class ThreeClasses(Restorer):
    def __init__(self) -> None:
        super().__init__()
        self.output = OutputSpec("classes", 3, 1)


RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
FLOATS = np.ascontiguousarray(BYTES.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
LABELS = np.arange(40) % 4


def written(path: Path, **arrays: np.ndarray) -> Tensors:
    if path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        (np.savez_compressed if "packed" in path.name else np.savez)(path, **arrays)
    return Tensors(TensorsConfig(file=str(path)))


@pytest.mark.parametrize("name", ["a.npz", "packed.npz", "a.safetensors"])
@pytest.mark.parametrize("inputs", [BYTES, FLOATS], ids=["bytes", "floats"])
def test_forms_of_files_and_arrays(tmp_path: Path, name: str, inputs: np.ndarray) -> None:
    data = written(tmp_path / name, x=inputs, y=LABELS)
    net = Classifier(4, side=16)
    data.check(net)
    for crop in islice(data.crops(net, 16, seed=0), 12):
        number = int(crop.scene.rpartition("/")[2])
        assert np.allclose(crop.inputs, FLOATS[number])
        assert int(crop.target) == LABELS[number]


def test_every_class_keeps_its_share(tmp_path: Path) -> None:
    data = written(tmp_path / "a.npz", inputs=BYTES, targets=LABELS)
    counts = Counter(int(frame.target) for frame in data.frames(Classifier(4, side=16), "test"))
    assert counts == {0: 2, 1: 2, 2: 2, 3: 2}


def test_arrays_named_after_splits_are_followed(tmp_path: Path) -> None:
    data = written(tmp_path / "a.npz", x_train=BYTES, y_train=LABELS, x_test=BYTES[:6], y_test=LABELS[:6])
    assert len(data.scenes("test")) == 6
    assert len(data.scenes("train")) + len(data.scenes("val")) == 40


def test_inputs_alone_are_unlabelled_and_images_have_targets(tmp_path: Path) -> None:
    alone = written(tmp_path / "a.npz", images=BYTES)
    assert next(alone.crops(Classifier(4, side=16), 16, seed=0)).target is None
    both = written(tmp_path / "b.npz", inputs=FLOATS, targets=1 - FLOATS)
    crop = next(both.crops(Restorer(), 8, seed=0))
    assert crop.inputs.shape == (3, 8, 8)
    assert np.allclose(crop.inputs + crop.target, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": BYTES, "y": LABELS[:39]}, "40 inputs, but 39 targets"),
        ({"x": np.where(np.arange(16) == 3, np.nan, FLOATS), "y": LABELS}, "input 0 .* NaN"),
        ({"x": FLOATS, "y": np.full((40, 3, 16, 16), np.inf, np.float32)}, "target 0 .* NaN"),
        ({"x": BYTES[:0], "y": LABELS[:0]}, "is empty"),
        ({"x": np.array([{}] * 3)}, "Python objects"),
        ({"z": BYTES}, "no array of inputs, only z"),
    ],
)
def test_bad_arrays_are_refused_at_once(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises((InputError, UsageError), match=message) as refused:
        written(tmp_path / "a.npz", **arrays)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": BYTES, "y": LABELS + 1}, "label 4; a-classifier has outputs 0 to 3"),
        ({"x": BYTES, "y": LABELS - 1}, "label -1"),
        ({"x": BYTES, "y": LABELS.astype(np.float32)}, "not the number of a class"),
        ({"x": BYTES[:, :12], "y": LABELS}, "12x16 pixels; a-classifier expects 16x16"),
        ({"x": FLOATS * 4 - 2, "y": LABELS}, r"values from -2.* not in 0 to 1"),
        ({"x": FLOATS[:, :2], "y": LABELS}, "not an image of 3 channels"),
        (
            {"x": np.where(np.arange(40) == 39, 2, 0.5)[:, None, None, None] * FLOATS, "y": LABELS},
            "not in 0 to 1",
        ),
        ({"x": BYTES, "y": LABELS * 0}, "All 40 samples have the class '0'"),
        (
            {"x_train": BYTES, "y_train": LABELS % 3, "x_test": BYTES, "y_test": LABELS},
            r"test images that the training images lack \(1\): 3",
        ),
    ],
)
def test_arrays_that_do_not_suit_the_network_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    data = written(tmp_path / "a.npz", **arrays)
    with pytest.raises((InputError, UsageError), match=message) as refused:
        data.check(Classifier(4, side=16))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("targets", "network", "message"),
    [
        (
            np.where(np.eye(16) > 0, 9, LABELS[:, None, None] % 3),
            ThreeClasses(),
            "value 9",
        ),
        (
            np.tile(np.array([[1, 2, 10, 12, 7]]), (40, 1, 1)),
            Detector(3),
            "label 7; a-detector has outputs 0 to 2",
        ),
        (np.tile(np.array([[9, 2, 3, 12, 0]]), (40, 1, 1)), Detector(3), "box without an area"),
        (np.ones((40, 1, 4)), Detector(3), "rows of five finite numbers"),
    ],
)
def test_classes_of_pixels_and_boxes_must_be_the_networks(
    tmp_path: Path, targets: np.ndarray, network: Architecture, message: str
) -> None:
    data = written(tmp_path / "a.npz", x=BYTES, y=targets)
    with pytest.raises(InputError, match=message):
        data.check(network)


class OneMask(Restorer):
    def __init__(self) -> None:
        super().__init__()
        self.output = OutputSpec("mask", 1, 1)


ZEROS, HALVES = np.zeros((40, 16, 16), np.uint8), np.tile(np.arange(2, dtype=np.uint8), (40, 16, 8))


@pytest.mark.parametrize(
    ("network", "targets", "message"),
    [
        (OneMask(), ZEROS[:, None], "All pixels of 40 samples .* have one class, 0; at least two"),
        (OneMask(), ZEROS[:, None] + 255, "have one class, 1; at least two"),
        (
            OneMask(),
            HALVES[:, None],
            r"No pixel of the masks .* largest value is 0\.003922.\nBytes count as shares",
        ),
        (ThreeClasses(), ZEROS + 2, "have one class, 2; at least two"),
        (ThreeClasses(), ZEROS + 255, "have one class; at least two"),
        (Restorer(), BYTES, "target of all 40 samples that were looked at is the input"),
    ],
)
def test_targets_from_which_nothing_can_be_learned_are_refused(
    tmp_path: Path, network: Architecture, targets: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        written(tmp_path / "a.npz", x=BYTES, y=targets).check(network)


def test_masks_of_truth_values_are_used_as_they_are(tmp_path: Path) -> None:
    data = written(tmp_path / "a.npz", x=BYTES, y=HALVES[:, None].astype(bool))
    data.check(OneMask())
    assert set(np.unique(next(data.frames(OneMask(), "test")).target)) == {0, 1}


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for name, content in (("a.npz", b"no zip"), ("a.safetensors", b"\0" * 20), ("a.txt", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            Tensors(TensorsConfig(file=str(tmp_path / name)))
    with pytest.raises(InputError, match="does not exist"):
        Tensors(TensorsConfig(file=str(tmp_path / "b.npz")))


def test_windows_of_classes_of_pixels_and_of_unlabelled_images(tmp_path: Path) -> None:
    class PixelClasses(Restorer):
        def __init__(self) -> None:
            super().__init__()
            self.task, self.output = "segmentation", OutputSpec("classes", 256, 1)

    data = written(tmp_path / "a.npz", inputs=BYTES, targets=BYTES[..., 0].astype(np.int64))
    crop = next(data.crops(PixelClasses(), 8, seed=0))
    assert np.array_equal(crop.target, np.rint(crop.inputs[0] * 255))
    alone = written(tmp_path / "b.npz", inputs=BYTES)
    crop = next(alone.crops(Restorer(), 8, seed=0))
    assert crop.target is None
    assert crop.inputs.shape == (3, 8, 8)


def test_what_is_larger_than_a_crop_is_cut_out_of_the_middle(tmp_path: Path) -> None:
    images = np.zeros((8, 3, 20, 20), np.float32)
    images[:, :, 6:14, 6:14] = 1
    np.savez(tmp_path / "x.npz", inputs=images, targets=np.arange(8) % 2)
    _, data = open_dataset(str(tmp_path / "x.npz"))
    network = Classifier(2, 20)
    for sample in islice(data.crops(network, 8, 0), 3):
        assert sample.inputs.shape == (3, 8, 8)
        assert sample.inputs.min() == 1
    with pytest.raises(UsageError, match="fewer than 24x24"):
        next(data.crops(network, 24, 0))
