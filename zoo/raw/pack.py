"""From a sensor mosaic to the input of a network: the whole frame, or a part of it at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from zoo.errors import InputError
from zoo.raw.noise import amplified
from zoo.raw.noise_estimate import estimate_noise
from zoo.raw.tone import encode, knee_of
from zoo.raw.tone import noise_planes as planes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from zoo.contracts import InputSpec
    from zoo.raw.decode import RawFrame


Mosaic: TypeAlias = Literal["bayer", "xtrans"]


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

    @property
    def side(self) -> int:
        """Packed pixels along each side of a cell."""
        return 1 if len(self.channels[0]) == 1 else 2


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
_LAYOUTS: Mapping[Mosaic, _Layout] = {"bayer": _BAYER, "xtrans": _XTRANS}


def pixels_per_side(mosaic: Mosaic) -> int:
    """Return how many pixels of a mosaic, and of the picture, lie along each side of a packed pixel."""
    return len(_LAYOUTS[mosaic].cell) // _LAYOUTS[mosaic].side


def colour_cell(mosaic: Mosaic) -> npt.NDArray[np.int64]:
    """Return the repeating cell at the phase that networks are trained for, as `RawFrame.pattern` states it."""
    cell = np.array(_LAYOUTS[mosaic].cell, dtype=np.int64)
    if mosaic == "bayer":
        cell[1, 0] = 3  # the second green
    return cell


@dataclass(frozen=True)
class Packed:
    """A packed frame.

    Attributes:
        data: float32 (C, h, w) in [0, 1], or on the curve of :mod:`zoo.raw.tone`, the noise planes last.
        top: Mosaic rows that were added before the first one to reach the network's phase.
        left: Mosaic columns that were added for the same reason.
        height: Of the mosaic in pixels; the picture is cropped to it.
        width: Of the mosaic in pixels.
        cell: Mosaic pixels per packed pixel along each side.
    """

    data: npt.NDArray[np.float32]
    top: int
    left: int
    height: int
    width: int
    cell: int = 2

    @property
    def shape(self) -> tuple[int, int]:
        """Return the packed rows and columns."""
        return self.data.shape[1], self.data.shape[2]

    def crop(self, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return (C, rows, columns) of the packed frame."""
        return self.data[:, rows, columns]


class Packer:
    """A frame that is packed a part at a time; its sizes mean what those of :class:`Packed` do.

    Raises:
        InputError: The network is for another kind of sensor.
    """

    def __init__(
        self,
        frame: RawFrame,
        mosaic_kind: Mosaic,
        ratio: float,
        *,
        white_balance: bool,
        noise_planes: int = 0,
    ) -> None:
        layout = _LAYOUTS[mosaic_kind]
        if frame.kind != mosaic_kind:
            raise InputError(
                f"This network expects {layout.name} RAW files; the file is from "
                f"{'a' if frame.kind == 'bayer' else 'an'} {_LAYOUTS[frame.kind].name} sensor.",
                hint="List the checkpoints, and their sensors:  zoo list checkpoints",
            )
        self._layout, self._mosaic, self._period = layout, frame.mosaic, len(layout.cell)
        self._side = layout.side
        self.top, self.left = _phase(frame, layout)
        self.height, self.width = frame.mosaic.shape
        self.cell = pixels_per_side(mosaic_kind)
        self._levels = [
            [self._level(frame, place, ratio, white_balance) for place in places]
            for places in layout.channels
        ]
        self._curves: list[list[npt.NDArray[np.float32]]] = []
        self._planes = np.empty(0, np.float32)
        if noise_planes:
            noise = amplified(frame.noise or estimate_noise(frame), frame.gains, ratio)
            self._planes = planes_of(noise)
            self._curves = [
                [_curve(black, gain, max(frame.white), knee_of(noise)) for black, gain in places]
                for places in self._levels
            ]

    def _level(
        self, frame: RawFrame, place: tuple[int, int], ratio: float, white_balance: bool
    ) -> tuple[np.float32, np.float32]:
        """Return what is subtracted from the pixels at a place of the cell, and what they are multiplied with."""
        row, column = place
        colour = int(frame.pattern[(row - self.top) % self._period, (column - self.left) % self._period])
        black = frame.black[colour]
        gain = frame.gains[1 if colour == 3 else colour] if white_balance else 1.0
        return np.float32(black), np.float32(gain * ratio / (frame.white[colour] - black))

    @property
    def shape(self) -> tuple[int, int]:
        """Return the packed rows and columns."""
        rows, columns = (
            -(-(self.height + self.top) // self._period),
            -(-(self.width + self.left) // self._period),
        )
        return self._side * rows, self._side * columns

    def packed(self) -> Packed:
        """Return the whole frame."""
        data = self.crop(slice(0, self.shape[0]), slice(0, self.shape[1]))
        return Packed(data, self.top, self.left, self.height, self.width, self.cell)

    def crop(self, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        """Return (C, rows, columns) of the packed frame, without packing the rest."""
        # Packed pixels come in whole cells of the mosaic.
        first = rows.start // self._side, columns.start // self._side
        last = -(-rows.stop // self._side), -(-columns.stop // self._side)
        cells = self._cells(first, last)
        out = np.empty(
            (
                len(self._levels) + len(self._planes),
                *(self._side * (end - at) for at, end in zip(first, last, strict=True)),
            ),
            dtype=np.float32,
        )
        channels = out[: len(self._levels)]
        for channel, (plane, places) in enumerate(zip(channels, self._layout.channels, strict=True)):
            for number, (row, column) in enumerate(places):
                pixels = plane[number // self._side :: self._side, number % self._side :: self._side]
                source = cells[row :: self._period, column :: self._period]
                if self._curves:
                    # Sensor values are whole numbers: the curve is a table.
                    pixels[:] = self._curves[channel][number].take(source, mode="clip")
                    continue
                black, gain = self._levels[channel][number]
                np.subtract(source, black, out=pixels, dtype=np.float32)
                pixels *= gain
        if self._curves:
            out[len(self._levels) :] = self._planes[:, None, None]
        else:
            np.clip(out, 0.0, 1.0, out=out)
        top, left = rows.start - self._side * first[0], columns.start - self._side * first[1]
        return out[:, top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]

    def _cells(self, first: tuple[int, int], last: tuple[int, int]) -> npt.NDArray[np.uint16]:
        """Return the mosaic from the cell `first` up to the cell `last`, extended where it has no pixels."""
        begin = self._period * first[0] - self.top, self._period * first[1] - self.left
        end = self._period * last[0] - self.top, self._period * last[1] - self.left
        if min(begin) >= 0 and end[0] <= self.height and end[1] <= self.width:
            return self._mosaic[begin[0] : end[0], begin[1] : end[1]]
        rows = _extended(begin[0], end[0], self.height, self._period)
        columns = _extended(begin[1], end[1], self.width, self._period)
        return self._mosaic[np.ix_(rows, columns)]


def make_packer(frame: RawFrame, spec: InputSpec, ratio: float) -> Packer:
    """Return what packs a mosaic for a network.

    Raises:
        InputError: The network is for another kind of sensor.
    """
    return Packer(
        frame,
        spec.mosaic or "bayer",
        ratio,
        white_balance=spec.white_balance,
        noise_planes=spec.noise_planes,
    )


def pack_mosaic(frame: RawFrame, spec: InputSpec, ratio: float) -> Packed:
    """Pack a whole mosaic for a network.

    Raises:
        InputError: The network is for another kind of sensor.
    """
    return make_packer(frame, spec, ratio).packed()


def pack_bayer(frame: RawFrame, ratio: float, *, white_balance: bool) -> Packed:
    """Pack a Bayer mosaic of any phase: (H, W) -> (4, ceil(H/2), ceil(W/2)), channels red, green, blue, green.

    Each value is ``clip((raw - black) / (white - black) * gain * ratio, 0, 1)``. A mosaic that does not start
    on red, or has an odd side, is extended by the pixels one cell further in.
    """
    return Packer(frame, "bayer", ratio, white_balance=white_balance).packed()


def pack_xtrans(frame: RawFrame, ratio: float, *, white_balance: bool) -> Packed:
    """Pack an X-Trans mosaic of any phase: (H, W) -> (9, h, w), h and w even and at least a third of H and W."""
    return Packer(frame, "xtrans", ratio, white_balance=white_balance).packed()


def _curve(black: np.float32, gain: np.float32, white: float, knee: float) -> npt.NDArray[np.float32]:
    """Return what each sensor value up to white becomes for a network that is told the noise."""
    values = (np.arange(int(white) + 1, dtype=np.float32) - black) * gain
    return encode(values, knee)


def _phase(frame: RawFrame, layout: _Layout) -> tuple[int, int]:
    """Rows and columns to add before the mosaic so that it starts as the network's cell does."""
    pattern = np.where(frame.pattern == 3, 1, frame.pattern)
    cell = np.array(layout.cell)
    for top in range(len(cell)):
        for left in range(len(cell)):
            if np.array_equal(np.roll(cell, (-top, -left), (0, 1)), pattern):
                return top, left
    raise InputError(
        f"The {layout.name} colour-filter pattern {frame.pattern.tolist()} has an unknown order.",
        hint="Report it with the camera's name; a sample file helps.",
    )


def _extended(begin: int, end: int, size: int, period: int) -> npt.NDArray[np.intp]:
    """Indices begin .. end-1 of a side of `size` pixels; beyond it those one period further in, of the same colours."""
    indices = np.arange(begin, end)
    indices[indices < 0] += period
    indices[indices >= size] -= period
    return indices
