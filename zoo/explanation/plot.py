"""Histograms of tensors with the ranges that cover them, as one PNG file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import ZooError
from zoo.explanation.verdicts import three_digits
from zoo.storage.atomic import write_bytes_atomic

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from zoo.explanation.report import Choice, Explanation
    from zoo.explanation.tensor_statistics import Distribution

#: Most tensors in one picture: those that differ most, or those of the largest error.
MOST = 12
_COLUMNS = 3
_WIDTH, _HEIGHT = 460, 250
#: left, top, right, bottom of the histogram inside a panel
_BOX = (12, 48, 448, 220)
_BARS = 218
_INK, _FAINT, _BAR = (30, 30, 30), (150, 150, 150), (176, 190, 205)
_COLOURS = ((200, 60, 40), (30, 100, 190))


@dataclass(frozen=True)
class _Panel:
    name: str
    distribution: Distribution
    choices: tuple[Choice, ...]


def draw_histograms(explanation: Explanation, path: Path) -> None:
    """Draw the tensors that differ most, or, without a comparison, those of the largest error; at most MOST.

    Counts are on a logarithmic scale.

    Raises:
        ZooError: Nothing was measured.
        OutputError: `path` cannot be written.
    """
    from PIL import Image, ImageDraw

    panels = _panels(explanation)
    if not panels:
        raise ZooError(f"{explanation.artifact} has no tensor whose values could be plotted.")
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    picture = Image.new("RGB", (columns * _WIDTH, rows * _HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    for place, panel in enumerate(panels):
        _draw_panel(pen, panel, (place % columns) * _WIDTH, (place // columns) * _HEIGHT)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    write_bytes_atomic(path, buffer.getvalue())


def _panels(explanation: Explanation) -> list[_Panel]:
    if explanation.comparisons:
        rows = sorted(explanation.comparisons, key=lambda row: -abs(row.gain_db))
        return [_Panel(r.name, r.distribution, (r.first, r.second)) for r in rows if r.distribution][:MOST]
    tensors = sorted(
        (tensor for tensor in explanation.tensors if tensor.choice and tensor.distribution),
        key=lambda tensor: tensor.choice.sqnr_db if tensor.choice else 0,
    )
    return [_Panel(t.name, t.distribution, (t.choice,)) for t in tensors if t.distribution and t.choice][
        :MOST
    ]


def _draw_panel(pen: ImageDraw, panel: _Panel, x: int, y: int) -> None:
    from PIL import ImageFont

    title, small = ImageFont.load_default(14), ImageFont.load_default(11)
    left, top, right, bottom = x + _BOX[0], y + _BOX[1], x + _BOX[2], y + _BOX[3]
    low, high = _shown(panel)
    span = high - low

    def across(value: float) -> float:
        return left + (value - low) / span * (right - left)

    pen.text((left, y + 6), panel.name[-54:], fill=_INK, font=title)
    for place, share in enumerate(_heights(panel.distribution, low, high)):
        if share > 0:
            start = left + place * (right - left) / _BARS
            pen.rectangle(
                (start, bottom - share * (bottom - top), start + (right - left) / _BARS - 1, bottom),
                fill=_BAR,
            )
    pen.line((left, bottom, right, bottom), fill=_INK)
    for value in (low, high, *((0.0,) if low < 0 < high else ())):
        pen.text(
            (across(value), bottom + 4),
            three_digits(value),
            fill=_FAINT,
            font=small,
            anchor=_anchor(value, low, high),
        )
    start = float(left)
    for choice, colour in zip(panel.choices, _COLOURS, strict=False):
        for value in (choice.low, choice.high):
            if low <= value <= high:
                pen.line((across(value), top, across(value), bottom), fill=colour, width=2)
        ratio = "exact" if math.isinf(choice.sqnr_db) else f"{choice.sqnr_db:.1f} dB"
        label = f"{choice.label[-24:]}: {three_digits(choice.range)}, {ratio}"
        pen.text((start, y + 27), label, fill=colour, font=small)
        start += pen.textlength(label, font=small) + 18


def _shown(panel: _Panel) -> tuple[float, float]:
    ends = [panel.distribution.least, panel.distribution.largest]
    reach = [value for choice in panel.choices for value in (choice.low, choice.high)]
    low = min(ends[0], max((v for v in reach if v < 0 and ends[0] < 0), default=ends[0], key=abs))
    high = max(ends[1], max((v for v in reach if v > 0), default=ends[1]))
    margin = 0.03 * (high - low) or 1.0
    return low - margin, high + margin


def _heights(distribution: Distribution, low: float, high: float) -> Sequence[float]:
    edges = distribution.edges()
    centres = (edges[:-1] + edges[1:]) / 2
    counts = np.histogram(centres, _BARS, (low, high), weights=distribution.counts)[0]
    logs: list[float] = np.log1p(counts).tolist()
    top = max(logs) or 1.0
    return [each / top for each in logs]


def _anchor(value: float, low: float, high: float) -> str:
    return "la" if value == low else "ra" if value == high else "ma"
