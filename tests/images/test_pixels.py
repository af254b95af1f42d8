"""Image files are opened in one place, and whatever is wrong with one is said of the file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from support import tiny
from zoo.contracts import InputSpec, OutputSpec
from zoo.data.picture_folders import read_picture
from zoo.errors import InputError
from zoo.images.pixels import as_input, image_size, read_pixels, read_rgb8
from zoo.runner.showing import read_input


def read_shown(path: Path, spec: InputSpec) -> Any:
    """Read an image as `zoo run` does for a classifier."""
    return read_input(path, tiny.manifest(input=spec, output=OutputSpec("logits", 10)))


RGB = InputSpec("rgb", 3, multiple_of=1, example=(64, 64))


@pytest.mark.parametrize("read", [read_pixels, read_picture, lambda path: read_shown(path, RGB)])
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


#: A picture with structure: gray in [0, 255], its sides differ.
SHADES = np.add.outer(np.arange(70) * 2, np.arange(90) + 5).astype(np.uint8)
COLOURS = np.stack([SHADES, 255 - SHADES, SHADES // 2], axis=2)
GRAY_RGB = SHADES[..., None].repeat(3, axis=2)
#: A half opaque, half transparent picture of COLOURS.
ALPHA = np.where(np.arange(90) < 45, 255, 0)[None].repeat(70, 0).astype(np.uint8)
ON_WHITE = np.where(ALPHA[..., None] == 255, COLOURS, 255)


def with_tiff(path: Path, pixels: np.ndarray, **options: Any) -> None:
    tifffile.imwrite(path, pixels, **options)


def palette(path: Path, **options: Any) -> None:
    image = Image.fromarray(SHADES, "L").convert("P")
    image.save(path, **options)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 5
    Image.fromarray(COLOURS.transpose(1, 0, 2)).save(path, exif=exif)


def twelve_bits(path: Path) -> None:
    """A TIFF file of one strip; two values in three bytes."""
    values = (SHADES.astype(np.uint16) << 4 | SHADES >> 4).reshape(-1, 2)
    packed = np.stack(
        [values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255], 1
    )
    data, (height, width) = packed.astype(np.uint8).tobytes(), SHADES.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)


def gray_alpha(path: Path) -> None:
    Image.merge("LA", [Image.fromarray(SHADES), Image.fromarray(ALPHA)]).save(path)


KINDS: dict[str, tuple[str, Callable[[Path], object], np.ndarray]] = {
    "gray": ("a.png", lambda path: Image.fromarray(SHADES).save(path), GRAY_RGB),
    "gray of 16 bits": (
        "a.png",
        lambda path: Image.fromarray(SHADES.astype(np.uint16) * 257).save(path),
        GRAY_RGB,
    ),
    "TIFF of 16 bits": ("a.tif", lambda path: with_tiff(path, SHADES.astype(np.uint16) * 257), GRAY_RGB),
    "big-endian TIFF": (
        "a.tif",
        lambda path: with_tiff(path, SHADES.astype(np.uint16) * 257, byteorder=">"),
        GRAY_RGB,
    ),
    "float TIFF": ("a.tif", lambda path: with_tiff(path, (SHADES / 255).astype(np.float32)), GRAY_RGB),
    "16-bit RGB TIFF": (
        "a.tif",
        lambda path: with_tiff(path, COLOURS.astype(np.uint16) * 257, photometric="rgb"),
        COLOURS,
    ),
    "one bit": (
        "a.png",
        lambda path: Image.fromarray(SHADES > 99).save(path),
        np.where(GRAY_RGB > 99, 255, 0),
    ),
    "palette": ("a.png", palette, GRAY_RGB),
    "palette with transparency": (
        "a.png",
        lambda path: palette(path, transparency=100),
        np.where(GRAY_RGB == 100, 255, GRAY_RGB),
    ),
    "gray with a transparent value": (
        "a.png",
        lambda path: Image.fromarray(SHADES).save(path, transparency=100),
        np.where(GRAY_RGB == 100, 255, GRAY_RGB),
    ),
    "16-bit gray with a transparent value": (
        "a.png",
        lambda path: Image.fromarray(SHADES.astype(np.uint16) * 257).save(path, transparency=25700),
        np.where(GRAY_RGB == 100, 255, GRAY_RGB),
    ),
    "alpha": ("a.png", lambda path: Image.fromarray(np.dstack([COLOURS, ALPHA])).save(path), ON_WHITE),
    "gray and alpha": ("a.png", gray_alpha, np.where(ALPHA[..., None] == 255, GRAY_RGB, 255)),
    "CMYK": ("a.tif", lambda path: Image.fromarray(COLOURS).convert("CMYK").save(path), COLOURS),
    "mirrored and turned": ("a.png", turned, COLOURS),
    "TIFF of 12 bits": ("a.tif", twelve_bits, GRAY_RGB),
    "16 bits with white as 0": (
        "a.tif",
        lambda path: with_tiff(path, 65535 - SHADES.astype(np.uint16) * 257, photometric="miniswhite"),
        GRAY_RGB,
    ),
    "floats with white as 0": (
        "a.tif",
        lambda path: with_tiff(path, (1 - SHADES / 255).astype(np.float32), photometric="miniswhite"),
        GRAY_RGB,
    ),
    "TIFF turned by a quarter": (
        "a.tif",
        lambda path: with_tiff(path, np.rot90(SHADES).copy(), extratags=[(0x0112, 3, 1, 6, True)]),
        GRAY_RGB,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_is_read_right_by_every_reader(kind: str, tmp_path: Path) -> None:
    name, write, wanted = KINDS[kind]
    write(tmp_path / name)
    assert image_size(tmp_path / name) == (90, 70)
    assert np.abs(read_rgb8(tmp_path / name).astype(int) - wanted).max() <= 1
    assert np.abs(read_picture(tmp_path / name).astype(int) - wanted).max() <= 1
    pixels = read_pixels(tmp_path / name, upright=True)
    assert np.abs(as_input(pixels, RGB, name) * 255 - wanted.transpose(2, 0, 1)).max() <= 1.01
    whole = InputSpec("rgb", 3, example=(70, 90), fixed_size=True)
    assert np.abs(read_shown(tmp_path / name, whole) * 255 - wanted.transpose(2, 0, 1)).max() <= 1.01


@pytest.mark.parametrize("values", [(0.0, 90.0), (-1.0, 1.0), (0.0, np.nan)])
@pytest.mark.parametrize("read", [read_picture, lambda path: read_shown(path, RGB)])
def test_values_of_an_unknown_range_are_refused_with_what_to_do(
    read: Callable[[Path], Any], values: tuple[float, float], tmp_path: Path
) -> None:
    path = tmp_path / "bright.tif"
    tifffile.imwrite(path, np.linspace(*values, 6400, dtype=np.float32).reshape(80, 80))
    with pytest.raises(InputError, match="outside 0 to 1") as caught:
        read(path)
    assert str(path) in caught.value.message
    assert "8 or 16 bits" in (caught.value.hint or "")


def test_integers_with_a_sign_are_refused_because_white_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "signed.tif"
    tifffile.imwrite(path, np.arange(6400, dtype=np.int16).reshape(80, 80))
    with pytest.raises(InputError, match="outside 0 to 1"):
        read_picture(path)


def test_planes_that_would_be_mixed_up_are_refused(tmp_path: Path) -> None:
    planes = COLOURS.transpose(2, 0, 1)
    with_tiff(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_pixels(tmp_path / "a.tif"), COLOURS)
    with_tiff(tmp_path / "b.tif", planes.astype(np.uint16) * 257, photometric="rgb", planarconfig="separate")
    with pytest.raises(InputError, match="16 bits in a plane of its own"):
        read_pixels(tmp_path / "b.tif")
