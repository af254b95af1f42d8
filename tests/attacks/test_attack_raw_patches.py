"""Camera files with altered bytes: refused, developed as they are, or developed with a word about what looks wrong."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.dngs import COLORCHART
from zoo.errors import InputError
from zoo.raw.decode import RawFrame, decode

#: Altered files in a run; the long form is ZOO_TEST_PATCHES=2000.
PATCHES = int(os.environ.get("ZOO_TEST_PATCHES", "120"))
SHARED = Path(__file__).parents[3] / "shared" / "hostile" / "raw_patches_of_colorchart.json"
#: Bytes of the file's description; one in five alterations is in the pixels behind it.
DESCRIPTION = 1000

pytestmark = pytest.mark.skipif(not COLORCHART.exists(), reason="the camera file is not here")


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
    height, width = (side // 2 * 2 for side in frame.mosaic.shape)
    light = (frame.mosaic[:height, :width] - frame.black[0]) / (frame.white[0] - frame.black[0])
    return np.clip(light * np.tile(gains, (height // 2, width // 2)), 0, 1)


def agreement(one: RawFrame, other: RawFrame) -> float:
    """PSNR in dB of the developed mosaics."""
    if one.mosaic.shape != other.mosaic.shape:
        return 0.0
    error = float(np.square(developed(one) - developed(other)).mean())
    return 99.0 if error == 0 else -10 * np.log10(error)


def test_an_altered_file_is_refused_or_gives_the_picture_or_a_word_of_doubt(
    content: bytes, clean: RawFrame
) -> None:
    chance = random.Random(7)
    silent = []
    for _ in range(PATCHES):
        data, patches = patched(content, chance)
        try:
            frame = decode(data)
        except InputError:
            continue
        # Several alterations at once may agree with each other.
        if agreement(frame, clean) < 30 and not frame.doubts and len(patches) <= 2:
            silent.append(patches)
    assert silent == []


@pytest.mark.skipif(not SHARED.exists(), reason="the altered files are not here")
def test_files_that_were_decoded_into_noise_are_refused(content: bytes, clean: RawFrame) -> None:
    for name, patches in json.loads(SHARED.read_text()).items():
        altered = bytearray(content)
        for place, value in patches:
            altered[place] = value
        with pytest.raises(InputError, match="damaged"):
            decode(bytes(altered))
        assert name


def test_the_camera_file_itself_raises_no_doubts(clean: RawFrame) -> None:
    assert clean.doubts == ()
    assert agreement(clean, replace(clean)) == 99
