"""Cutting a frame into tiles that fit in memory and give the same picture as the whole.

A tile is computed with a halo around it as wide as the network looks. Tiles start at multiples of the
network's stride, so that its poolings see the same grid; at the frame's own edge there is no halo, and the
network pads as it would for the whole frame. A network that looks at the whole frame is given it in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from zoo.contracts.architecture import WHOLE_FRAME
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.contracts import InputSpec

#: Halo in input pixels where a manifest states none, or a quarter of the only side that it takes: enough for four
#: poolings and two 3 x 3 convolutions at each of the five levels, on the way down and up:
#: 2 * (1 + 2 + 4 + 8) + 2 * 16 + 2 * (8 + 4 + 2 + 1) = 92, with the alignment of the levels 94, as a multiple of 16.
DEFAULT_HALO = 96
_MOST_PARTS = 64
#: How often a pixel may be computed, on average: tiles of the only size that a network takes, less what it looks around
#: itself, may leave a single pixel each.
_MOST_TIMES = 400


@dataclass(frozen=True)
class Span:
    """One side of a tile: it contributes pixels start .. stop, and is computed from first .. last (ends excluded)."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """A tiling of a frame.

    Attributes:
        rows: The tiles are all pairs of rows and columns.
        columns: See `rows`.
        height: Of the frame in input pixels, extended to a multiple of the stride.
        width: See `height`.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    height: int
    width: int

    @property
    def tiles(self) -> int:
        """Return the number of tiles."""
        return len(self.rows) * len(self.columns)

    @property
    def largest(self) -> int:
        """Return the input pixels of the largest tile, halo included."""
        return _longest(self.rows) * _longest(self.columns)

    @property
    def computed(self) -> int:
        """Return the input pixels of all tiles, halos included."""
        return _total(self.rows) * _total(self.columns)

    def __iter__(self) -> Iterator[tuple[Span, Span]]:
        return ((row, column) for row in self.rows for column in self.columns)


def plan_tiles(
    height: int,
    width: int,
    spec: InputSpec,
    *,
    limit: int,
    need: Callable[[Plan], int] | None = None,
    most_side: int | None = None,
) -> Plan:
    """Return the tiling that computes the fewest pixels within `limit`, or else the one that needs least.

    Args:
        height: Of the packed frame.
        width: Of the packed frame.
        spec: The network's input.
        limit: The most that `need` may be.
        need: What a tiling needs, in any unit; by default the pixels of its largest tile, halo included.
        most_side: A tile's longest side.

    Raises:
        UsageError: No tile is as small as `most_side`, or the network needs the frame in one piece, which is larger
            than `most_side` or than the only size that it takes.
    """
    stride = spec.multiple_of
    halo = _multiple(DEFAULT_HALO if spec.halo is None else spec.halo, stride)
    height, width = _multiple(height, stride), _multiple(width, stride)
    if spec.halo == WHOLE_FRAME:
        return _in_one_piece(height, width, spec, most_side)
    if spec.fixed_size:
        height, width = max(height, spec.example[0]), max(width, spec.example[1])
        halos = [
            halo if spec.halo is not None else min(halo, side // 4 // stride * stride)
            for side in spec.example
        ]
        rows = _fixed(height, spec.example[0], halos[0], stride)
        plan = Plan(rows, _fixed(width, spec.example[1], halos[1], stride), height, width)
        if plan.computed > _MOST_TIMES * height * width:
            raise UsageError(
                f"A frame of {width}x{height} would be computed {plan.computed // (height * width)} times over: this "
                f"network accepts {spec.example[1]}x{spec.example[0]} only, and needs a border of {halo} pixels.",
                hint="Use smaller images, or export the network for arbitrary sizes.",
            )
        return plan
    by_row, by_column = _splits(height, halo, stride), _splits(width, halo, stride)
    if most_side is not None:
        by_row = [spans for spans in by_row if _longest(spans) <= most_side]
        by_column = [spans for spans in by_column if _longest(spans) <= most_side]
        if not (by_row and by_column):
            raise UsageError(
                f"A tile of {most_side} is too small: this network needs a border of {halo} pixels around a tile.",
                hint=f"Use at least --tile {2 * halo + stride}, or omit it.",
            )
    down, across = ([_total(spans) for spans in side] for side in (by_row, by_column))
    pairs = sorted((h * w, number, at) for number, h in enumerate(down) for at, w in enumerate(across))
    plans = (Plan(by_row[number], by_column[at], height, width) for _, number, at in pairs)
    need = need or (lambda plan: plan.largest)
    smallest: tuple[int, Plan] | None = None
    for plan in plans:
        needed = need(plan)
        if needed <= limit:
            return plan
        if smallest is None or needed < smallest[0]:
            smallest = needed, plan
    assert smallest is not None
    return smallest[1]


def _in_one_piece(height: int, width: int, spec: InputSpec, most_side: int | None) -> Plan:
    """Return the only tiling for a network that looks at the whole frame. Raises UsageError."""
    if most_side is not None and most_side < max(height, width):
        raise UsageError(
            f"The frame cannot be cut into tiles of {most_side}: every output of this network depends on the whole "
            "frame.",
            hint="Omit --tile; if it is the engine that limits the size, use another one (--engine onnxruntime).",
        )
    if spec.fixed_size:
        if height > spec.example[0] or width > spec.example[1]:
            raise UsageError(
                f"A frame of {width}x{height} is too large: this network accepts {spec.example[1]}x{spec.example[0]} "
                "only, and every output depends on the whole frame.",
                hint="Use smaller images, or export the network for arbitrary sizes.",
            )
        height, width = spec.example
    return Plan((Span(0, height, 0, height),), (Span(0, width, 0, width),), height, width)


def _multiple(size: int, stride: int) -> int:
    return -(-size // stride) * stride


def _splits(size: int, halo: int, stride: int) -> list[tuple[Span, ...]]:
    """A side in 1, 2, 3, ... parts that are, with their halos, as equal as the stride allows: outer ones give more."""
    found: list[tuple[Span, ...]] = [(Span(0, size, 0, size),)]
    for parts in range(2, _MOST_PARTS + 1):
        # What an inner part gives; an outer one gives a halo more, for it computes one less.
        own = (size - 2 * halo) / parts
        if own < stride:
            break
        inner = [round((halo + own * part) / stride) * stride for part in range(1, parts)]
        edges = [0, *inner, size]
        found.append(tuple(Span(a, b, max(0, a - halo), min(size, b + halo)) for a, b in pairwise(edges)))
    return found


def _fixed(size: int, side: int, halo: int, stride: int) -> tuple[Span, ...]:
    """Tiles for a network that takes one size only; at the far edge they move inwards."""
    spans = []
    start = 0
    while start < size:
        first = min(max(0, start - halo), size - side)
        end = first + side
        # A halo of half the side or more leaves no exact tile; the least step is taken then.
        stop = size if end == size else max(start + stride, end - halo)
        spans.append(Span(start, stop, first, end))
        start = stop
    return tuple(spans)


def _longest(spans: tuple[Span, ...]) -> int:
    return max(span.last - span.first for span in spans)


def _total(spans: tuple[Span, ...]) -> int:
    return sum(span.last - span.first for span in spans)
