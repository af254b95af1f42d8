"""The See-in-the-Dark tree is read as its authors publish it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from support.sid_tree import write_tree
from zoo.architectures.unet import UNetArchitecture
from zoo.data.sid import SeeInTheDark, SidConfig
from zoo.errors import InputError, UsageError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sid")
    write_tree(folder)
    return folder


@pytest.fixture
def dataset(root: Path) -> SeeInTheDark:
    return SeeInTheDark(SidConfig(root=str(root)))


def test_the_ratio_comes_from_the_file_names_and_stops_at_300(dataset: SeeInTheDark) -> None:
    assert [pair.ratio for pair in dataset.pairs("train")] == [pytest.approx(100), pytest.approx(100), 300]


def test_splits_are_those_of_the_lists_without_the_misaligned_test_scenes(dataset: SeeInTheDark) -> None:
    assert list(dataset.scenes("train")) == ["00001", "00002"]
    assert list(dataset.scenes("test")) == ["10004"]


def test_a_frame_pairs_the_amplified_short_with_the_developed_long_exposure(dataset: SeeInTheDark) -> None:
    sample = next(dataset.frames(UNetArchitecture(), "test"))
    assert sample.inputs.shape == (4, 64, 96)
    assert sample.target is not None
    assert sample.target.shape == (3, 128, 192)
    green = sample.inputs[[1, 3]].mean(axis=0)
    bright = sample.target[1].reshape(64, 2, 96, 2).mean((1, 3))
    # the same scene: where the developed picture is bright, so is the amplified sensor data
    assert np.corrcoef(green.ravel(), bright.ravel())[0, 1] > 0.8


def test_crops_are_reproducible_from_any_number_and_visit_all_pairs(dataset: SeeInTheDark) -> None:
    architecture = UNetArchitecture()
    first = list(islice(dataset.crops(architecture, 32, seed=1), 24))
    later = next(dataset.crops(architecture, 32, seed=1, start=17))
    assert np.array_equal(first[17].inputs, later.inputs)
    assert np.array_equal(first[17].target, later.target)
    assert {sample.scene for sample in first} == {"00001", "00002"}
    assert first[0].inputs.shape == (4, 32, 32)
    assert first[0].target.shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("./Sony/short/00001_00_0.1s.ARW", "a short and a long file"),
        ("./Sony/short/00001_00.ARW ./Sony/long/00001_00_10s.ARW", "exposure time"),
        ("../../etc/passwd_0.1s.ARW ./Sony/long/00001_00_10s.ARW", "outside"),
        ("", "contains no pairs"),
    ],
)
def test_damaged_lists_are_refused_with_the_line(tmp_path: Path, line: str, text: str) -> None:
    (tmp_path / "Sony_train_list.txt").write_text(line + "\n")
    with pytest.raises(InputError, match=text):
        SeeInTheDark(SidConfig(root=str(tmp_path))).pairs("train")


def test_a_missing_root_or_list_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the folder of the data"):
        SeeInTheDark().scenes("train")
    with pytest.raises(InputError, match=r"Sony_val_list\.txt"):
        SeeInTheDark(SidConfig(root=str(tmp_path))).scenes("val")


def test_crops_larger_than_a_frame_are_refused(dataset: SeeInTheDark) -> None:
    with pytest.raises(UsageError, match="smaller than a crop"):
        next(dataset.crops(UNetArchitecture(), 128, seed=0))


def test_files_that_are_none_are_named_before_any_work_and_left_out_if_asked_for(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "Sony" / "short" / "00001_01_0.1s.ARW").write_bytes(b"")
    (tmp_path / "Sony" / "short" / "00002_00_0.04s.ARW").unlink()
    with pytest.raises(InputError, match=r"2 files .*00001_01.*empty.*00002_00"):
        SeeInTheDark(SidConfig(root=str(tmp_path))).pairs("train")
    data = SeeInTheDark(SidConfig(root=str(tmp_path), skip_bad=True))
    assert [pair.short.name for pair in data.pairs("train")] == ["00001_00_0.1s.ARW"]
    assert "00002_00" in " ".join(data.notes())


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    victim = tmp_path / "Sony" / "long" / "10004_00_10s.ARW"
    victim.write_bytes(victim.read_bytes()[:2000])
    with pytest.raises(InputError, match="10004_00_10s"):
        next(SeeInTheDark(SidConfig(root=str(tmp_path))).frames(UNetArchitecture(), "test"))
