"""From a sensor mosaic to the input of a network, in one vectorised pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.raw.decode import RawFrame

#: Where each channel of a packed Bayer frame sits in an RGGB cell: red, green, blue, green.
_BAYER_ORDER = ((0, 0), (0, 1), (1, 1), (1, 0))


@dataclass(frozen=True)
class Packed:
    """A packed frame.

    data: float32 (C, h, w) in [0, 1].
    top, left: mosaic rows and columns that were added before the first one to reach the network's phase.
    height, width: size of the mosaic in pixels; the picture is cropped to it.
    """

    data: npt.NDArray[np.float32]
    top: int
    left: int
    height: int
    width: int


def pack_bayer(frame: RawFrame, ratio: float, *, white_balance: bool) -> Packed:
    """Pack a Bayer mosaic of any phase: (H, W) -> (4, ceil(H/2), ceil(W/2)), channels red, green, blue, green.

    Each value is ``clip((raw - black) / (white - black) * gain * ratio, 0, 1)``. A mosaic that does not start
    on red, or has an odd side, is extended by reflection, which keeps the phase.
    """
    if frame.kind != "bayer":
        raise InputError("This network takes Bayer RAW files; the file is from an X-Trans sensor.")
    reds = np.argwhere(frame.pattern == 0)
    if len(reds) != 1 or sorted(np.where(frame.pattern == 3, 1, frame.pattern).ravel()) != [0, 1, 1, 2]:
        raise InputError(f"Unknown colour-filter pattern {frame.pattern.tolist()}; red-green-green-blue is needed.")
    top, left = (int(v) for v in reds[0])
    height, width = frame.mosaic.shape
    bottom, right = (height + top) % 2, (width + left) % 2
    mosaic = frame.mosaic
    if top or left or bottom or right:
        mosaic = np.pad(mosaic, ((top, bottom), (left, right)), mode="reflect")
    out = np.empty((4, mosaic.shape[0] // 2, mosaic.shape[1] // 2), dtype=np.float32)
    for channel, (row, column) in enumerate(_BAYER_ORDER):
        colour = int(frame.pattern[(row + top) % 2, (column + left) % 2])
        black = frame.black[colour]
        gain = frame.gains[1 if colour == 3 else colour] if white_balance else 1.0
        plane = out[channel]
        np.subtract(mosaic[row::2, column::2], np.float32(black), out=plane, dtype=np.float32)
        plane *= np.float32(gain * ratio / (frame.white[colour] - black))
        np.clip(plane, 0.0, 1.0, out=plane)
    return Packed(out, top, left, height, width)
