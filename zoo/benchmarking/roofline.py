"""The roofline of a machine with the artifacts that were measured on it, as a PNG picture.

Williams, Waterman and Patterson, Roofline: An Insightful Visual Performance Model for Multicore Architectures, 2009.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.storage.atomic import write_bytes_atomic

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

_WIDTH, _HEIGHT = 900, 560
#: left, top, right, bottom of the axes
_BOX = (80, 50, 870, 490)
_INK, _FAINT = (30, 30, 30), (205, 205, 205)
_COLOURS = ((200, 60, 40), (30, 100, 190), (40, 140, 80), (150, 80, 170), (190, 130, 20), (90, 90, 90))


@dataclass(frozen=True)
class RooflinePoint:
    """A measured network: multiply-accumulates for each byte it moves, and 10^9 of them a second."""

    name: str
    intensity: float
    gmacs_per_s: float


def draw_roofline(
    points: Sequence[RooflinePoint], peaks: Mapping[str, float], bandwidth: float, path: Path
) -> None:
    """Draw the roof, min(peak, bandwidth * intensity) for each peak, and the points below it; both axes logarithmic.

    Args:
        points: One for each measured candidate.
        peaks: 10^9 multiply-accumulates a second, by the name of the arithmetic.
        bandwidth: 10^9 bytes a second.
        path: The PNG file to write.

    Raises:
        OutputError: `path` cannot be written.
    """
    from PIL import Image, ImageDraw

    ridges = [peak / bandwidth for peak in peaks.values()]
    across = _Axis([*ridges, *(p.intensity for p in points)], _BOX[0], _BOX[2])
    up = _Axis([*peaks.values(), *(p.gmacs_per_s for p in points)], _BOX[3], _BOX[1])
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    _draw_axes(pen, across, up)
    for name, peak in peaks.items():
        _draw_roof(pen, across, up, name, peak, bandwidth)
    pen.text((_BOX[0], 14), f"memory {bandwidth:.1f} GB/s", fill=_INK, font=_font(15))
    _draw_points(pen, across, up, points)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    write_bytes_atomic(path, buffer.getvalue())


class _Axis:
    """A logarithmic axis over whole powers of ten around `values`, from pixel `start` to `end`."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.high = math.floor(math.log10(min(values) / 2)), math.ceil(math.log10(max(values) * 2))
        self._start, self._scale = start, (end - start) / (self.high - self.low)

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self.low) * self._scale

    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def _draw_axes(pen: ImageDraw, across: _Axis, up: _Axis) -> None:
    left, top, right, bottom = _BOX
    for value in across.decades():
        pen.line((across(value), top, across(value), bottom), fill=_FAINT)
        pen.text((across(value), bottom + 8), f"{value:g}", fill=_INK, font=_font(12), anchor="ma")
    for value in up.decades():
        pen.line((left, up(value), right, up(value)), fill=_FAINT)
        pen.text((left - 8, up(value)), f"{value:g}", fill=_INK, font=_font(12), anchor="rm")
    pen.text(
        (right, bottom + 32), "multiply-accumulates per byte moved", fill=_INK, font=_font(14), anchor="ra"
    )
    pen.text((left, top - 8), "GMAC/s", fill=_INK, font=_font(14), anchor="rs")


def _draw_points(pen: ImageDraw, across: _Axis, up: _Axis, points: Sequence[RooflinePoint]) -> None:
    """Dots with their names, on the side where there is more room, none over another."""
    lowest = {"lm": 0.0, "rm": 0.0}
    for number, point in enumerate(sorted(points, key=lambda point: -point.gmacs_per_s)):
        colour = _COLOURS[number % len(_COLOURS)]
        x, y = across(point.intensity), up(point.gmacs_per_s)
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
        anchor = "rm" if x > (_BOX[0] + _BOX[2]) / 2 else "lm"
        # below the dot, because a roof may run through it
        height = max(y + 12, lowest[anchor] + 16)
        lowest[anchor] = height
        beside = x - 10 if anchor == "rm" else x + 10
        pen.text((beside, height), point.name[-48:], fill=colour, font=_font(13), anchor=anchor)


def _draw_roof(pen: ImageDraw, across: _Axis, up: _Axis, name: str, peak: float, bandwidth: float) -> None:
    """The slope as far up as the peak, and the peak from there on."""
    least = max(10.0**across.low, 10.0**up.low / bandwidth)
    ridge = peak / bandwidth
    points = [(across(least), up(least * bandwidth)), (across(ridge), up(peak)), (_BOX[2], up(peak))]
    pen.line([(int(x), int(y)) for x, y in points], fill=_INK, width=2)
    pen.text((_BOX[2], up(peak) - 4), f"{name} {peak:,.0f} GMAC/s", fill=_INK, font=_font(13), anchor="rs")


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
