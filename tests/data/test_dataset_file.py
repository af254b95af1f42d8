"""Datasets in a file of one's own: a class of the contract, or any sequence of inputs and targets."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from support.class_folders import Classifier
from zoo.data.choose import choose_dataset, open_dataset
from zoo.errors import InputError, UsageError, ZooError
from zoo.testing import dataset_checks

SOURCE = '''
from dataclasses import dataclass
import numpy as np
from zoo.contracts import Dataset, Sample
import next_to_it

@dataclass(frozen=True)
class Config:
    level: float = 0.5

class Flat(Dataset):
    """Images of one level."""
    id = "flat"
    summary = "images of one level"
    Config = Config
    tasks = frozenset({"classification"})

    def scenes(self, split):
        return [f"{split}-{number}" for number in range(4)]

    def crops(self, architecture, size, seed, start=0):
        while True:
            yield Sample("x", "train-0", np.full((3, size, size), self.config.level, np.float32), np.array(1))

    def frames(self, architecture, split, seed=0):
        for scene in self.scenes(split):
            yield Sample(scene, scene, np.zeros((3, 32, 32), np.float32), np.array(2))

    def identity(self):
        return f"flat {self.config.level}"

class Taskless(Flat):
    pass
del Taskless  # a name that is gone

class Pairs:
    def __init__(self, count="20"):
        self.count = int(count)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((32, 32, 3), index, np.uint8), index % 3

class Bad(Pairs):
    """Its sample 17 is not what it should be."""
    def __init__(self, kind):
        super().__init__()
        self.kind = int(kind)

    def __getitem__(self, index):
        image, label = np.full((32, 32, 3), 0.5, np.float32), index % 3
        if self.kind == 2:
            return image, 1
        if index != 17:
            return image, label
        if self.kind == 3:
            raise IndexError(index)
        if self.kind == 4:
            image[0] = np.nan
        return image[: 20 if self.kind == 5 else 32], 4 if self.kind == 1 else label

def tensors():
    import torch
    return [(torch.full((3, 32, 32), index / 20), index % 3) for index in range(20)]

def nothing():
    return []

def number():
    return 7

def fails():
    raise RuntimeError("no disk")
'''


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "next_to_it.py").write_text("")
    (tmp_path / "mine.py").write_text(SOURCE)
    return str(tmp_path / "mine.py")


def test_a_class_of_the_contract_is_read_with_its_options(file: str) -> None:
    text, data = choose_dataset(f"{file}:Flat(level=0.25)", (), Classifier(3))
    assert text == f"{file}:Flat(level=0.25)"
    assert next(data.crops(Classifier(3), 32, 0)).inputs.max() == 0.25
    assert data.identity() != open_dataset(f"{file}:Flat")[1].identity()
    with pytest.raises(UsageError, match="no option 'levl'"):
        open_dataset(f"{file}:Flat(levl=1)")


@pytest.mark.parametrize("name", ["Pairs", "Pairs(count=20)", "tensors"])
def test_a_sequence_of_inputs_and_targets_is_split_by_its_numbers(file: str, name: str) -> None:
    _, data = choose_dataset(f"{file}:{name}", (), Classifier(3))
    assert [len(data.scenes(split)) for split in ("train", "val", "test")] == [14, 2, 4]
    for crop in islice(data.crops(Classifier(3), 32, seed=0), 20):
        number = int(crop.scene.rpartition("/")[2])
        assert crop.inputs.shape == (3, 32, 32)
        assert int(crop.target) == number % 3


def test_the_identity_follows_the_file(file: str) -> None:
    before = open_dataset(f"{file}:Pairs")[1].identity()
    assert before == open_dataset(f"{file}:Pairs")[1].identity()
    Path(file).write_text(SOURCE + "\n# changed\n")
    assert before != open_dataset(f"{file}:Pairs")[1].identity()


def test_a_sequence_of_its_own_keeps_the_contract(file: str) -> None:
    made = open_dataset(f"{file}:Pairs")[1]
    checks = dataset_checks(type(made), architecture=Classifier(3))
    checks.made = classmethod(lambda cls: open_dataset(f"{file}:Pairs")[1])  # type: ignore[method-assign]
    tests = checks()
    tests.test_the_splits_are_disjoint()
    tests.test_crops_stream()
    tests.test_a_crop_depends_on_the_seed_and_its_number_alone()
    tests.test_frames_belong_to_their_split()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Gone", "has no class or function 'Gone'"),
        ("nothing", "an empty sequence"),
        ("number", "returns int, neither"),
        ("fails", r"mine.py, line \d+: fails failed: RuntimeError: no disk"),
    ],
)
def test_what_is_no_dataset_is_refused(file: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset(f"{file}:{name}")
    with pytest.raises(InputError, match="does not exist"):
        open_dataset("./nowhere.py:Data")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("1", "label 4; a-classifier has outputs 0 to 2"),
        ("2", "All 20 samples have the class '1'"),
        ("3", r"mine.py, line \d+: sample 17 of Bad\(kind=3\) failed: IndexError"),
        ("4", "contains NaN"),
        ("5", "20x32 pixels; a-classifier expects 32x32"),
    ],
)
def test_a_sequence_with_a_bad_sample_is_refused_before_any_work(file: str, item: str, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        choose_dataset(f"{file}:Bad(kind={item})", (), Classifier(3))


def test_a_file_of_arrays_needs_no_more_than_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, inputs=np.zeros((9, 32, 32, 3), np.uint8), targets=np.arange(9) % 3)
    for text in (str(path), f"tensors({path})"):
        found, data = choose_dataset(text, (), Classifier(3))
        assert found == f"tensors(file={path})"
        assert data.id == "tensors"
