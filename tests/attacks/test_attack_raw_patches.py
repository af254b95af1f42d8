"""Camera files with altered bytes: refused, developed as they are, or developed with a word about what looks wrong."""

from __future__ import annotations

import json
import os
import random
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.dngs import COLORCHART, PHASES, XTRANS, dng, frame, odd_dng
from zoo.errors import InputError
from zoo.raw.decode import RawFrame, decode

#: Altered files in a run, and which; the long form is ZOO_TEST_PATCHES=2000.
PATCHES, SEED = (
    int(os.environ.get(f"ZOO_TEST_{name}", each)) for name, each in (("PATCHES", 120), ("SEED", 7))
)
SHARED = Path(__file__).parents[3] / "shared" / "hostile" / "raw_patches_of_colorchart.json"
#: Bytes of the file's description; one in five alterations is in the pixels behind it.
DESCRIPTION = 1000

needs_camera_file = pytest.mark.skipif(not COLORCHART.exists(), reason="the camera file is not here")


@pytest.fixture(scope="module")
def content() -> bytes:
    return COLORCHART.read_bytes()


@pytest.fixture(scope="module")
def clean(content: bytes) -> RawFrame:
    return decode(content)


def patched(content: bytes, chance: random.Random) -> tuple[bytes, list[tuple[int, int]]]:
    altered, patches = bytearray(content), []
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        place = chance.randrange(DESCRIPTION if chance.random() < 0.8 else len(content))
        altered[place] = (
            chance.randrange(256) if chance.random() < 0.5 else altered[place] ^ 1 << chance.randrange(8)
        )
        patches.append((place, altered[place]))
    return bytes(altered), patches


def developed(frame: RawFrame) -> np.ndarray:
    """The mosaic in [0, 1] with its white balance."""
    gains = np.array([*frame.gains, frame.gains[1]])[frame.pattern]
    cell = len(frame.pattern)
    height, width = (side // cell * cell for side in frame.mosaic.shape)
    light = (frame.mosaic[:height, :width] - frame.black[0]) / (frame.white[0] - frame.black[0])
    return np.clip(light * np.tile(gains, (height // cell, width // cell)), 0, 1)


def scene(shape: tuple[int, int], pattern: np.ndarray) -> bytes:
    """A file of soft shades and an edge, as a sensor with these filters sees them."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    shades = 2500 + 1800 * np.sin(columns / 19) * np.cos(rows / 23) + 900 * (columns > shape[1] // 2)
    repeats = [-(-side // len(pattern)) for side in shape]
    filters = np.array([0.5, 1, 0.7, 1])[np.tile(pattern, repeats)[: shape[0], : shape[1]]]
    noise = np.random.default_rng(0).normal(0, 25, shape)
    return dng(frame(shape, pattern, mosaic=np.clip(shades * filters + 512 + noise, 0, 16383)))


def agreement(one: RawFrame, other: RawFrame) -> float:
    """PSNR in dB of the developed mosaics."""
    if one.mosaic.shape != other.mosaic.shape or not np.array_equal(one.pattern % 3, other.pattern % 3):
        return 0.0
    error = float(np.square(developed(one) - developed(other)).mean())
    return 99.0 if error == 0 else -10 * np.log10(error)


def silent(content: bytes, count: int) -> list[list[tuple[int, int]]]:
    """What was altered in files that are developed into another picture without a word."""
    chance, clean = random.Random(SEED), decode(content)
    found = []
    for _ in range(count):
        data, patches = patched(content, chance)
        try:
            developing = decode(data)
        except InputError:
            continue
        # Several alterations at once may agree with each other.
        if agreement(developing, clean) < 30 and not developing.doubts and len(patches) <= 2:
            found.append(patches)
    return found


@needs_camera_file
def test_an_altered_file_is_refused_or_gives_the_picture_or_a_word_of_doubt(content: bytes) -> None:
    assert silent(content, PATCHES) == []


@pytest.mark.parametrize(
    ("shape", "pattern"), [((240, 320), PHASES["gbrg"]), ((300, 450), XTRANS)], ids=["bayer", "xtrans"]
)
def test_an_altered_file_of_the_darkroom_is_refused_or_gives_the_picture_or_a_word_of_doubt(
    shape: tuple[int, int], pattern: np.ndarray
) -> None:
    assert silent(scene(shape, pattern), PATCHES) == []


def test_a_file_that_is_shifted_or_turned_over_by_one_byte_does_not_pass_silently() -> None:
    content = scene((300, 450), XTRANS)
    entry = {struct.unpack_from("<H", content, at)[0]: at + 8 for at in range(10, 322, 12)}
    (offset,) = struct.unpack_from("<I", content, entry[273])
    altered = bytearray(content)
    struct.pack_into("<I", altered, entry[273], offset - 16)
    with pytest.raises(InputError, match="over its own description"):
        decode(bytes(altered))
    padded = bytearray(content[:offset] + bytes(16) + content[offset:])
    struct.pack_into("<I", padded, entry[273], offset)
    with pytest.raises(InputError, match="green pixels"):  # 16 bytes later
        decode(bytes(padded))
    for orientation, said in ((2, "mirror"), (100, "unknown orientation")):
        turned = odd_dng(decode(content).mosaic[:, :448], tags=((274, 3, 1, orientation, True),))
        if orientation == 100:
            with pytest.raises(InputError, match=said):
                decode(turned)
        else:
            assert any(said in each for each in decode(turned).doubts)


@needs_camera_file
@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (355, 0, "no pixel is darker"),  # black level of 8
        (355, 6, "covered pixels have 20"),  # of 1544
        (367, 42, "white level of 10904 is unusual"),
        (952, 16, "top is black"),  # the visible pixels begin 10 rows earlier
        (956, 136, "left is black"),
        (418, 41, "white balance is unusual|No white balance"),  # a neutral color called a point
        (420, 4, "white balance is unusual"),  # fractions called integers
    ],
)
def test_metadata_that_the_pixels_speak_against_raises_a_doubt(
    content: bytes, place: int, value: int, says: str
) -> None:
    altered = bytearray(content)
    altered[place] = value
    found = decode(bytes(altered)).doubts
    assert any(re.search(says, each) for each in found), found


def test_a_width_that_is_smaller_than_that_of_the_rows_raises_a_doubt() -> None:
    altered = bytearray(scene((300, 450), XTRANS))
    entry = {struct.unpack_from("<H", altered, at)[0]: at + 8 for at in range(10, 322, 12)}
    struct.pack_into("<I", altered, entry[256], 448)
    assert any("1,136 bytes more" in each for each in decode(bytes(altered)).doubts)


@needs_camera_file
def test_damage_to_the_number_of_samples_does_not_switch_the_other_checks_off(content: bytes) -> None:
    altered = bytearray(content)
    altered[134] = 228
    with pytest.raises(InputError, match="228 numbers of samples"):
        decode(bytes(altered))


@needs_camera_file
@pytest.mark.skipif(not SHARED.exists(), reason="the altered files are not here")
def test_files_that_were_decoded_into_noise_are_refused(content: bytes, clean: RawFrame) -> None:
    for name, patches in json.loads(SHARED.read_text()).items():
        altered = bytearray(content)
        for place, value in patches:
            altered[place] = value
        with pytest.raises(InputError, match="damaged"):
            decode(bytes(altered))
        assert name


@needs_camera_file
def test_the_camera_file_itself_raises_no_doubts(clean: RawFrame) -> None:
    assert clean.doubts == ()
    assert agreement(clean, replace(clean)) == 99
