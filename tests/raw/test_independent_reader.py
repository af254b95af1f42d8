"""Pixels, colours and orientation, held against tifffile as another reader of generated DNG files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from support.dngs import PHASES, XTRANS, odd_dng
from zoo.errors import InputError
from zoo.raw.decode import decode
from zoo.runner.infer import upright

CELLS = {name: np.where(cell == 3, 1, cell) for name, cell in PHASES.items()} | {"xtrans": XTRANS}
#: What the TIFF specification says of each value: where the first row and the first column are.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: stored.T[:, ::-1],
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: stored.T[::-1],
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 16)},
}


def scene(sides: tuple[int, int], largest: int) -> np.ndarray:
    """A shaded surface with noise, which differs from each of its mirror images."""
    shades = np.add.outer(np.linspace(0.1, 0.5, sides[0]), np.linspace(0.1, 0.4, sides[1]))
    return (largest * (shades + np.random.default_rng(0).normal(0, 0.01, sides))).astype(np.uint16)


def packed(samples: np.ndarray, bits: int) -> bytes:
    """Rows of samples of `bits` bits, most significant bit first, each row a whole number of bytes."""
    planes = samples[..., None] >> np.arange(bits)[::-1] & 1
    return b"".join(np.packbits(row.ravel()).tobytes() for row in planes.astype(np.uint8))


def seen_by_tifffile(data: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """The samples, the colour of each and the orientation."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        sides = page.tags["CFARepeatPatternDim"].value
        cell = np.frombuffer(bytes(page.tags["CFAPattern"].value), np.uint8).reshape(sides)
        samples = page.asarray()
        colours = np.tile(cell, (samples.shape[0] // len(cell) + 1, samples.shape[1] // len(cell[0]) + 1))
        return samples, colours[: samples.shape[0], : samples.shape[1]], page.tags["Orientation"].value


@given(
    cell=st.sampled_from(sorted(CELLS)),
    shift=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    sides=st.tuples(st.integers(34, 50), st.integers(34, 50)),
    orientation=st.integers(1, 8),
    bits=st.sampled_from([10, 12, 14, 16]),
    order=st.sampled_from("<>"),
    layout=st.sampled_from(sorted(LAYOUTS)),
)
@settings(max_examples=80)
def test_pixels_colours_and_orientation_are_those_another_reader_finds(
    cell: str,
    shift: tuple[int, int],
    sides: tuple[int, int],
    orientation: int,
    bits: int,
    order: str,
    layout: str,
) -> None:
    largest = 2**bits - 1
    samples = scene(sides, largest)
    pattern = np.roll(CELLS[cell], shift, (0, 1))
    data = odd_dng(
        samples,
        tuple(map(tuple, pattern.tolist())),
        ((274, 3, 1, orientation, True),),
        byteorder=order,
        white=largest,
        **LAYOUTS[layout],
    )
    wanted, colours, stored_as = seen_by_tifffile(data)
    frame = decode(data)
    assert frame.white == (largest,) * 4
    assert np.array_equal(frame.mosaic, wanted)
    index = np.ix_(*(np.arange(side) % len(frame.pattern) for side in sides))
    assert np.array_equal(np.where(frame.pattern == 3, 1, frame.pattern)[index], colours)
    assert np.array_equal(upright(frame.mosaic[..., None], frame.flip)[..., 0], UPRIGHT[stored_as](wanted))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("order", "<>")
def test_samples_that_are_packed_into_fewer_bits_are_read(bits: int, order: str) -> None:
    samples = scene((36, 48), 2**bits - 1)
    data = odd_dng(
        iter([packed(samples, bits)]),
        shape=samples.shape,
        dtype="uint16",
        bitspersample=bits,
        rowsperstrip=len(samples),
        byteorder=order,
        white=2**bits - 1,
    )
    assert np.array_equal(decode(data).mosaic, samples)


def test_a_compression_that_libraw_does_not_read_is_refused() -> None:
    samples = scene((36, 48), 16383)
    for options in ({"compression": "deflate"}, {"compression": "zlib", "predictor": 2}):
        with pytest.raises(InputError, match=r"not a RAW file that LibRaw recognises|damaged"):
            decode(odd_dng(samples, **options))
