"""Panasonic RW2 files for tests, which LibRaw decodes without noticing where they end."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

_BLOCK, _TURN = 0x4000, 0x2008
_DIRECTORY_AT, _DATA_AT = 24, 4096


def rw2_with(data: bytes, height: int, width: int) -> bytes:
    """A file of raw format 5 with 12 bits: 10 pixels in 16 bytes, turned within blocks of 16 kB."""
    numbers = {
        0x02: width, 0x03: height, 0x04: 4, 0x05: 4, 0x06: height - 4, 0x07: width - 12, 0x08: 1, 0x09: 1,
        0x0A: 12, 0x0B: 34316, 0x17: 100, 0x1C: 15, 0x1D: 15, 0x1E: 15, 0x24: 500, 0x25: 256, 0x26: 400, 0x2D: 5,
        0x112: 1, 0x116: height, 0x118: _DATA_AT,
    }  # fmt: skip
    texts = {0x01: b"0310", 0x10F: b"Panasonic\0", 0x110: b"DC-GH5S\0"}
    at = _DIRECTORY_AT + 2 + 12 * (len(numbers) + len(texts)) + 4
    entries, behind = b"", b""
    for tag in sorted(numbers | texts):
        if tag == 0x01:
            entries += struct.pack("<HHI", tag, 7, 4) + texts[tag]
        elif tag in texts:
            entries += struct.pack("<HHII", tag, 2, len(texts[tag]), at + len(behind))
            behind += texts[tag]
        else:
            entries += struct.pack("<HHII", tag, 4 if tag > 0x112 else 3, 1, numbers[tag])
    head = (
        b"IIU\0"
        + struct.pack("<I16xH", _DIRECTORY_AT, len(numbers) + len(texts))
        + entries
        + bytes(4)
        + behind
    )
    return head.ljust(_DATA_AT, b"\0") + data


def rw2(pixels: np.ndarray[Any, Any]) -> bytes:
    """The RW2 file of an array of 12-bit numbers; its width must be a multiple of 10."""
    first, second = (pixels.reshape(-1, 10).astype(np.uint16)[:, start::2] for start in (0, 1))
    packed = np.zeros((len(first), 16), np.uint8)
    packed[:, 0:15:3] = first & 255
    packed[:, 1:15:3] = first >> 8 | (second & 15) << 4
    packed[:, 2:15:3] = second >> 4
    blocks = np.pad(packed.ravel(), (0, -packed.size % _BLOCK)).reshape(-1, _BLOCK)
    return rw2_with(np.roll(blocks, -_TURN, axis=1).tobytes(), *pixels.shape)
