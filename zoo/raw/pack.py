"""From a sensor mosaic to the input of a network, in one vectorised pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import InputSpec
    from zoo.raw.decode import RawFrame


@dataclass(frozen=True)
class _Layout:
    """How a mosaic becomes channels.

    cell:     colours of the repeating cell at the phase the network was trained for; 0 red, 1 green, 2 blue.
    channels: for each channel the place in the cell of each of its pixels; one pixel a cell, or 2 x 2 of them
              in the order of reading.
    """

    name: str
    cell: tuple[tuple[int, ...], ...]
    channels: tuple[tuple[tuple[int, int], ...], ...]


_BAYER = _Layout("Bayer", ((0, 1), (1, 2)), (((0, 0),), ((0, 1),), ((1, 1),), ((1, 0),)))
#: The channels of Chen et al. 2018 for Fuji: red, green, blue, red, blue of each 3 x 3, then its other greens.
_XTRANS = _Layout(
    "X-Trans",
    (
        (0, 2, 1, 2, 0, 1),
        (1, 1, 0, 1, 1, 2),
        (1, 1, 2, 1, 1, 0),
        (2, 0, 1, 0, 2, 1),
        (1, 1, 2, 1, 1, 0),
        (1, 1, 0, 1, 1, 2),
    ),
    (
        ((0, 0), (0, 4), (3, 1), (3, 3)),
        ((0, 2), (0, 5), (3, 2), (3, 5)),
        ((0, 1), (0, 3), (3, 0), (3, 4)),
        ((1, 2), (2, 5), (5, 2), (4, 5)),
        ((2, 2), (1, 5), (4, 2), (5, 5)),
        ((1, 0), (1, 3), (4, 0), (4, 3)),
        ((1, 1), (1, 4), (4, 1), (4, 4)),
        ((2, 0), (2, 3), (5, 0), (5, 3)),
        ((2, 1), (2, 4), (5, 1), (5, 4)),
    ),
)
_LAYOUTS = {"bayer": _BAYER, "xtrans": _XTRANS}


@dataclass(frozen=True)
class Packed:
    """A packed frame.

    data: float32 (C, h, w) in [0, 1].
    top, left: mosaic rows and columns that were added before the first one to reach the network's phase.
    height, width: size of the mosaic in pixels; the picture is cropped to it.
    cell: mosaic pixels per packed pixel along each side.
    """

    data: npt.NDArray[np.float32]
    top: int
    left: int
    height: int
    width: int
    cell: int = 2


def pack(frame: RawFrame, spec: InputSpec, ratio: float) -> Packed:
    """Pack a mosaic for a network. Raises InputError if the network is for another kind of sensor."""
    return _pack(frame, spec.mosaic or "bayer", ratio, spec.white_balance)


def pack_bayer(frame: RawFrame, ratio: float, *, white_balance: bool) -> Packed:
    """Pack a Bayer mosaic of any phase: (H, W) -> (4, ceil(H/2), ceil(W/2)), channels red, green, blue, green.

    Each value is ``clip((raw - black) / (white - black) * gain * ratio, 0, 1)``. A mosaic that does not start
    on red, or has an odd side, is extended by the pixels one cell further in.
    """
    return _pack(frame, "bayer", ratio, white_balance)


def pack_xtrans(frame: RawFrame, ratio: float, *, white_balance: bool) -> Packed:
    """Pack an X-Trans mosaic of any phase: (H, W) -> (9, h, w), h and w even and at least a third of H and W."""
    return _pack(frame, "xtrans", ratio, white_balance)


def _pack(
    frame: RawFrame, mosaic_kind: Literal["bayer", "xtrans"], ratio: float, white_balance: bool
) -> Packed:
    layout = _LAYOUTS[mosaic_kind]
    if frame.kind != mosaic_kind:
        raise InputError(
            f"This network takes {layout.name} RAW files; the file is from "
            f"{'a' if frame.kind == 'bayer' else 'an'} {_LAYOUTS[frame.kind].name} sensor.",
            hint="See which checkpoints there are, and for which sensors:  zoo list checkpoints",
        )
    period = len(layout.cell)
    top, left = _phase(frame, layout)
    height, width = frame.mosaic.shape
    bottom, right = -(height + top) % period, -(width + left) % period
    mosaic = frame.mosaic
    if top or left or bottom or right:
        rows, columns = _extended(height, top, bottom, period), _extended(width, left, right, period)
        mosaic = mosaic[np.ix_(rows, columns)]
    side = 1 if len(layout.channels[0]) == 1 else 2
    cells = mosaic.shape[0] // period, mosaic.shape[1] // period
    out = np.empty((len(layout.channels), side * cells[0], side * cells[1]), dtype=np.float32)
    for channel, places in enumerate(layout.channels):
        for number, (row, column) in enumerate(places):
            colour = int(frame.pattern[(row - top) % period, (column - left) % period])
            black = frame.black[colour]
            gain = frame.gains[1 if colour == 3 else colour] if white_balance else 1.0
            plane = out[channel, number // side :: side, number % side :: side]
            np.subtract(mosaic[row::period, column::period], np.float32(black), out=plane, dtype=np.float32)
            plane *= np.float32(gain * ratio / (frame.white[colour] - black))
    np.clip(out, 0.0, 1.0, out=out)
    return Packed(out, top, left, height, width, period // side)


def _phase(frame: RawFrame, layout: _Layout) -> tuple[int, int]:
    """Rows and columns to add before the mosaic so that it starts as the network's cell does."""
    pattern = np.where(frame.pattern == 3, 1, frame.pattern)
    cell = np.array(layout.cell)
    for top in range(len(cell)):
        for left in range(len(cell)):
            if np.array_equal(np.roll(cell, (-top, -left), (0, 1)), pattern):
                return top, left
    raise InputError(
        f"The {layout.name} colour-filter pattern {frame.pattern.tolist()} is of an unknown order.",
        hint="Report it with the camera's name; a sample file helps.",
    )


def _extended(size: int, before: int, after: int, period: int) -> npt.NDArray[np.intp]:
    """Indices 0 .. size-1 with more on both sides: those one period further in, which have the same colours."""
    indices = np.arange(-before, size + after)
    indices[indices < 0] += period
    indices[indices >= size] -= period
    return indices
