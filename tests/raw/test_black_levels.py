"""Black levels of every form that the DNG specification allows, held against tifffile as an independent reader."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.dngs import PHASES, XTRANS, odd_dng
from zoo.errors import InputError
from zoo.raw.black_levels import BlackLevels, read_black_levels
from zoo.raw.decode import decode
from zoo.raw.dng_tags import frame_tags
from zoo.raw.noise import read_noise_profile

_SHORT, _RATIONAL, _SRATIONAL = 3, 5, 10
SIDES = (36, 48)
CELLS = {name: np.where(cell == 3, 1, cell) for name, cell in PHASES.items()} | {"xtrans": XTRANS}


def rationals(values: Any) -> tuple[int, ...]:
    return tuple(part for value in np.ravel(values) for part in (round(float(value) * 4), 4))


def file_of(
    samples: np.ndarray,
    cell: np.ndarray,
    black: np.ndarray,
    rows: Any = (),
    columns: Any = (),
    **options: Any,
) -> bytes:
    """A DNG file whose black level is a cell, and an offset for each row and column."""
    tags = [
        (50713, _SHORT, 2, black.shape, True),
        (50714, _RATIONAL, black.size, rationals(black), True),
    ]
    tags += [(50715, _SRATIONAL, len(columns), rationals(columns), True)] if len(columns) else []
    tags += [(50716, _SRATIONAL, len(rows), rationals(rows), True)] if len(rows) else []
    return odd_dng(samples, tuple(map(tuple, cell.tolist())), tuple(tags), **options)


def levels_by_tifffile(data: bytes) -> np.ndarray:
    """The black level of each pixel (H, W), from the tags as another library reads them."""

    def values(tags: Any, name: str) -> np.ndarray:
        if name not in tags:
            return np.zeros(1)
        pairs = np.array(tags[name].value, dtype=float).reshape(-1, 2)
        return pairs[:, 0] / pairs[:, 1]

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        height, width = page.shape
        cell = values(page.tags, "BlackLevel").reshape(page.tags["BlackLevelRepeatDim"].value)
        plane = np.tile(cell, (height // len(cell) + 1, width // cell.shape[1] + 1))[:height, :width]
        columns, rows = (values(page.tags, f"BlackLevelDelta{axis}") for axis in "HV")
        return plane + columns[None, :] + rows[:, None]


@given(
    phase=st.sampled_from(sorted(CELLS)),
    cell=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    by_row=st.booleans(),
    by_column=st.booleans(),
    order=st.sampled_from("<>"),
    bits=st.sampled_from([10, 12, 14]),
    seed=st.integers(0, 10),
)
@example(phase="xtrans", cell=(1, 2), by_row=False, by_column=False, order="<", bits=14, seed=0)
@settings(max_examples=40)
def test_light_above_black_is_what_another_reader_of_the_tags_computes(
    phase: str, cell: tuple[int, int], by_row: bool, by_column: bool, order: str, bits: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    black = random.integers(20, 60, cell).astype(float)
    rows = random.integers(-4, 5, SIDES[0]) / 2 if by_row else ()
    columns = random.integers(-4, 5, SIDES[1]) / 2 if by_column else ()
    shades = np.add.outer(np.linspace(0.1, 0.5, SIDES[0]), np.linspace(0.1, 0.4, SIDES[1]))
    light = shades * (2**bits - 200) + random.normal(0, 3, SIDES)
    samples = (100 + light + np.tile(black, (36, 48))[: SIDES[0], : SIDES[1]]).astype(np.uint16)
    data = file_of(samples, CELLS[phase], black, rows, columns, byteorder=order)
    frame = decode(data)
    light = (
        frame.mosaic
        - np.array(frame.black)[frame.pattern[np.ix_(*(np.arange(s) % len(frame.pattern) for s in SIDES))]]
    )
    wanted = samples - levels_by_tifffile(data)
    assert np.abs(light - wanted).max() <= 0.5


def test_levels_that_differ_by_colour_alone_leave_the_mosaic_as_it_is() -> None:
    samples = np.random.default_rng(0).integers(600, 4000, SIDES).astype(np.uint16)
    frame = decode(file_of(samples, CELLS["rggb"], np.array([[512.0, 500.0], [508.0, 520.0]])))
    assert np.array_equal(frame.mosaic, samples)
    assert frame.black == (512, 500, 520, 508)


def read_all(data: bytes) -> None:
    tags = frame_tags(io.BytesIO(data), "shot.dng")
    if tags is not None:
        read_black_levels(tags, "shot.dng")
        read_noise_profile(tags)


@pytest.mark.parametrize("sides", [(4, 3), (0, 4)])
def test_a_cell_that_does_not_hold_its_levels_is_refused(sides: tuple[int, int]) -> None:
    tags = ((50713, _SHORT, 2, sides, True), (50714, _RATIONAL, 16, rationals(range(16)), True))
    data = odd_dng(np.full(SIDES, 900, np.uint16), ((0, 1), (1, 2)), tags)
    with pytest.raises(InputError, match="16 black levels for a cell of"):
        read_all(data)


def test_offsets_for_a_frame_of_another_size_are_refused() -> None:
    samples = np.random.default_rng(0).integers(600, 4000, SIDES).astype(np.uint16)
    with pytest.raises(InputError, match=r"black levels for 5 rows, but has 36"):
        BlackLevels(((512.0,),), rows=(1.0, 2.0, 3.0, 4.0, 5.0)).flatten(samples, "shot.dng")


@given(st.data())
@settings(max_examples=60)
def test_damaged_tags_end_in_an_input_error_or_in_none(data: st.DataObject) -> None:
    whole = bytearray(file_of(np.full(SIDES, 900, np.uint16), CELLS["rggb"], np.arange(16.0).reshape(4, 4)))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, 500))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(8, len(whole)))
    with contextlib.suppress(InputError):
        read_all(bytes(whole[:cut]))
