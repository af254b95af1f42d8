"""RAW files that LibRaw opens without a word, and that hold no picture; and dark or odd ones that do."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from support.dngs import COLORCHART, RGGB, dng, frame, odd_dng
from support.rw2s import rw2, rw2_with
from zoo.errors import InputError
from zoo.raw.decode import decode

pytestmark = pytest.mark.filterwarnings("error")
needs_chart = pytest.mark.skipif(not COLORCHART.exists(), reason="the camera file is not here")
ROWS, COLUMNS = np.mgrid[:720, :1010]
SCENE = 1500 + 400 * np.sin(COLUMNS / 300) + 300 * np.cos(ROWS / 200)
NOISY = (SCENE + np.random.default_rng(0).normal(0, 20, SCENE.shape)).astype(np.uint16)


def tag_at(data: bytes, wanted: int) -> int:
    """Where the entry of a tag lies in the first directory of a DNG."""
    directory = struct.unpack_from("<I", data, 4)[0]
    entries = range(directory + 2, directory + 2 + 12 * data[directory], 12)
    return next(entry for entry in entries if struct.unpack_from("<H", data, entry)[0] == wanted)


def with_value(data: bytes, tag: int, value: bytes) -> bytes:
    place = tag_at(data, tag) + 8
    return data[:place] + value + data[place + len(value) :]


@pytest.fixture
def chart() -> bytes:
    return COLORCHART.read_bytes()


@needs_chart
def test_a_camera_file_cut_anywhere_is_refused(chart: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.dng"
    for size in (*range(0, 4096, 256), *range(4096, len(chart), 200_003), *range(len(chart) - 8, len(chart))):
        path.write_bytes(chart[:size])
        with pytest.raises(InputError, match=r"cut\.dng"):
            decode(path)


@needs_chart
def test_a_camera_file_with_flipped_bits_is_refused_or_changes_no_more_than_those_pixels(
    chart: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "flipped.dng"
    path.write_bytes(chart)
    whole = decode(path)
    rng = np.random.default_rng(7)
    for _ in range(30):
        changed = bytearray(chart)
        for place in rng.integers(
            1536, len(chart), 5
        ):  # behind the header the file is pixels, not compressed
            changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        assert np.count_nonzero(decode(path).mosaic != whole.mosaic) <= 5


@needs_chart
def test_a_camera_file_whose_pixels_are_lost_is_refused(chart: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lost.dng"
    start = len(chart) // 2
    for lost, message in (
        (bytes(len(chart) - 4096), "only zeros"),
        (chart[4096:start] + bytes(len(chart) - start), "its image is empty"),
        (np.random.default_rng(1).bytes(len(chart) - 4096), "absurd levels|noise, not an image"),
        (
            chart[4096:start] + np.random.default_rng(1).bytes(len(chart) - start),
            "absurd levels|noise, not an im",
        ),
    ):
        path.write_bytes(chart[:4096] + lost)
        with pytest.raises(InputError, match=message):
            decode(path)


@needs_chart
def test_a_camera_file_whose_levels_are_absurd_is_refused(chart: bytes, tmp_path: Path) -> None:
    path = tmp_path / "levels.dng"
    for white in (2000, 2056, 2100):
        path.write_bytes(with_value(chart, 50717, struct.pack("<I", white)))
        with pytest.raises(InputError, match="absurd levels"):
            decode(path)


@needs_chart
@pytest.mark.parametrize("cell", [(1, 0, 2, 1), (1, 2, 0, 1)])
def test_a_pattern_that_puts_green_elsewhere_is_refused(
    chart: bytes, tmp_path: Path, cell: tuple[int, ...]
) -> None:
    path = tmp_path / "shifted.dng"
    path.write_bytes(with_value(chart, 33422, bytes(cell)))
    with pytest.raises(InputError, match="green pixels are not where"):
        decode(path)


def test_an_rw2_is_read_and_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = rw2(NOISY)
    path = tmp_path / "cut.rw2"
    path.write_bytes(whole)
    read = decode(path).mosaic
    assert np.array_equal(read, NOISY[:, : read.shape[1]])
    # without the last block, which is mostly filling, nothing of the picture need be missing
    for size in range(1000, len(whole) - 0x8000, 37_811):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"cut\.rw2"):
            decode(path)


def test_an_rw2_of_garbage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "garbage.rw2"
    size = len(rw2(NOISY))
    for data in (np.random.default_rng(0).bytes(size), bytes(size), b""):
        path.write_bytes(rw2_with(data, *NOISY.shape))
        with pytest.raises(InputError, match=r"garbage\.rw2"):
            decode(path)


def test_swapped_bytes_are_refused() -> None:
    pixels = np.clip(SCENE * 4 + np.random.default_rng(0).normal(0, 200, SCENE.shape), 600, 16000)
    with pytest.raises(InputError, match=r"absurd levels|noise"):
        decode(odd_dng(pixels.astype(np.uint16).byteswap()))


# ------------------------------------------------------------------------------------------- what must pass


@pytest.mark.parametrize(
    "pixels",
    [
        np.random.default_rng(0).normal(530, 12, SCENE.shape),  # an exposure of almost nothing
        np.random.default_rng(0).normal(512, 300, SCENE.shape),  # at the highest sensitivity
        np.where(SCENE > 1400, 16383, 600),  # overexposed
        np.full(SCENE.shape, 16383),
        np.where((ROWS // 2 + COLUMNS // 2) % 2, 900, 15000),  # a chart as fine as the sensor
        SCENE * 4,  # a drawing without noise
        np.broadcast_to(600 + COLUMNS * 10, SCENE.shape),  # all rows alike
        np.random.default_rng(0).poisson(40, SCENE.shape) * 100 + 512,  # few electrons
    ],
)
def test_a_dark_noisy_or_overexposed_picture_is_no_damage(pixels: np.ndarray) -> None:
    assert decode(dng(frame(mosaic=np.clip(pixels, 1, 16383)))).mosaic.shape == SCENE.shape


@pytest.mark.parametrize(
    "colour", [(0.1, 0.1, 1), (1, 0.05, 0.05), (0.02, 1, 0.02), (1, 1, 1), (0.4, 0.5, 0.42)]
)
def test_a_scene_of_any_colour_is_no_damage(colour: tuple[float, float, float]) -> None:
    gains = np.array([*colour, colour[1]])[RGGB]
    pixels = 512 + SCENE * np.tile(gains, (360, 505))
    noise = np.random.default_rng(0).normal(0, 10, SCENE.shape)
    assert decode(dng(frame(mosaic=np.clip(pixels + noise, 0, 16383)))).mosaic.shape == SCENE.shape


def test_a_few_pixels_far_above_white_are_no_damage() -> None:
    pixels = NOISY.copy()
    pixels[::40, ::40] = 65535
    assert decode(dng(frame(mosaic=pixels))).mosaic.max() == 65535
