"""Pixels, colours and orientation, held against tifffile as another reader of generated DNG files."""

from __future__ import annotations

import io
import struct
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
ACTIVE_AREA = 50829
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


def lossless_jpeg(samples: np.ndarray, bits: int, components: int) -> bytes:
    """Samples (H, W) as differences from the one to the left, neighbours in turn taken for components of one pixel."""
    height, width = samples.shape
    pixels = samples.reshape(height, -1, components).astype(int)
    before = np.concatenate([np.roll(pixels[:, :1], 1, 0), pixels[:, :-1]], 1)
    before[0, 0] = 1 << bits - 1
    code = ""
    for value in (pixels - before).ravel().tolist():
        size = abs(value).bit_length()  # of 17 sizes, each has a code of 5 bits
        code += f"{size:05b}" + (
            f"{value if value > 0 else value + (1 << size) - 1:0{size}b}" if size else ""
        )
    code += "1" * (-len(code) % 8)
    scan = int(code, 2).to_bytes(len(code) // 8, "big").replace(b"\xff", b"\xff\0")
    each = range(components)
    table = struct.pack(">H17B17B", 36, 0, *(17 if length == 5 else 0 for length in range(1, 17)), *range(17))
    frame = struct.pack(">HBHHB", 8 + 3 * components, bits, height, width // components, components)
    start = struct.pack(">HB", 6 + 2 * components, components)
    return b"".join([
        b"\xff\xd8\xff\xc4", table, b"\xff\xc3", frame, *(bytes((index, 0x11, 0)) for index in each),
        b"\xff\xda", start, *(bytes((index, 0)) for index in each), bytes((1, 0, 0)), scan, b"\xff\xd9",
    ])  # fmt: skip


def as_jpeg(data: bytes, bits: int) -> bytes:
    """A little-endian file whose directory says that its tiles are lossless JPEG of so many bits per sample."""
    changed, first = bytearray(data), struct.unpack_from("<I", data, 4)[0]
    for start in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], 12):
        (tag,) = struct.unpack_from("<H", data, start)
        if tag in (258, 259):
            struct.pack_into("<H", changed, start + 8, bits if tag == 258 else 7)
    return bytes(changed)


def seen_by_tifffile(data: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """The visible samples, the colour of each and the orientation. Cells begin at the first visible sample."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        sides = page.tags["CFARepeatPatternDim"].value
        cell = np.frombuffer(bytes(page.tags["CFAPattern"].value), np.uint8).reshape(sides)
        top, left, bottom, right = page.tags["ActiveArea"].value
        samples = page.asarray()[top:bottom, left:right]
        colours = np.tile(cell, (samples.shape[0] // len(cell) + 1, samples.shape[1] // len(cell[0]) + 1))
        return samples, colours[: samples.shape[0], : samples.shape[1]], page.tags["Orientation"].value


@given(
    cell=st.sampled_from(sorted(CELLS)),
    shift=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    sides=st.tuples(st.integers(38, 50), st.integers(38, 50)),
    orientation=st.integers(1, 8),
    bits=st.sampled_from([10, 12, 14, 16]),
    order=st.sampled_from("<>"),
    layout=st.sampled_from(sorted(LAYOUTS)),
    hidden=st.tuples(*[st.integers(0, 7)] * 4),
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
    hidden: tuple[int, int, int, int],
) -> None:
    largest = 2**bits - 1
    samples = scene(sides, largest)
    pattern = np.roll(CELLS[cell], shift, (0, 1))
    area = (hidden[0], hidden[1], sides[0] - hidden[2], sides[1] - hidden[3])
    data = odd_dng(
        samples,
        tuple(map(tuple, pattern.tolist())),
        ((274, 3, 1, orientation, True), (ACTIVE_AREA, 4, 4, area, True)),
        byteorder=order,
        white=largest,
        **LAYOUTS[layout],
    )
    wanted, colours, stored_as = seen_by_tifffile(data)
    frame = decode(data)
    assert frame.white == (largest,) * 4
    assert np.array_equal(frame.mosaic, wanted)
    index = np.ix_(*(np.arange(side) % len(frame.pattern) for side in wanted.shape))
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


@pytest.mark.parametrize("components", [1, 2])
def test_samples_in_lossless_jpeg_are_read(components: int) -> None:
    samples = scene((32, 48), 4095)
    tiles = [lossless_jpeg(samples[:, left : left + 16], 12, components) for left in (0, 16, 32)]
    data = odd_dng(
        iter(tiles), shape=samples.shape, dtype="uint16", tile=(32, 16), compression="deflate", white=4095
    )
    assert np.array_equal(decode(as_jpeg(data, 12)).mosaic, samples)


def test_a_compression_that_libraw_does_not_read_is_refused() -> None:
    samples = scene((36, 48), 16383)
    for options in ({"compression": "deflate"}, {"compression": "zlib", "predictor": 2}):
        with pytest.raises(InputError, match=r"not a RAW file that LibRaw recognises|damaged"):
            decode(odd_dng(samples, **options))
