"""Image files are opened in one place, and whatever is wrong with one is said of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from zoo.contracts import InputSpec
from zoo.data.picture_folders import read_picture
from zoo.errors import InputError
from zoo.images.pixels import as_input, read_pixels
from zoo.runner.rgb_input import read_rgb

RGB = InputSpec("rgb", 3, multiple_of=1, example=(64, 64))


@pytest.mark.parametrize("read", [read_pixels, read_picture, lambda path: read_rgb(path, RGB)])
def test_a_file_that_is_not_an_image_is_named_by_every_reader(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.full((80, 70, 3), 7, np.uint8)).save(whole)
    assert read(whole).max() > 0
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:-30])
    empty = tmp_path / "empty.png"
    empty.touch()
    for path, reason in (
        (tmp_path / "none.png", "does not exist"),
        (tmp_path, "is a directory"),
        (cut, "cannot be read as an image"),
        (empty, "cannot be read as an image"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            read(path)
        assert str(path) in caught.value.message


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_read_in_the_depth_they_are_stored_in(dtype: type[Any], tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 7), dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tiff", stored)
    read = read_pixels(tmp_path / "a.tiff")
    assert read.dtype == dtype
    assert np.array_equal(read, stored)
    inputs = as_input(read, RGB, "a.tiff")
    assert inputs.shape == (3, 9, 7)
    assert np.allclose(inputs * np.iinfo(dtype).max, stored)


def test_an_image_is_turned_as_its_exif_data_says_if_that_is_asked_for(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # quarter turn
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_pixels(tmp_path / "a.jpg").shape == (40, 60, 3)
    assert read_pixels(tmp_path / "a.jpg", upright=True).shape == (60, 40, 3)
