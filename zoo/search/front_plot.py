"""The candidates of a search as a plot in SVG: what each costs, and what nothing beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from zoo.search.front import pareto_front
from zoo.search.goals import Goal, show_goal
from zoo.search.search_result import Point, SearchResult

_WIDTH, _HEIGHT = 460, 360
#: left, top, right, bottom of the axes in a panel
_BOX = (70, 20, 440, 310)
_TICKS = 5
#: Beyond this ratio of the largest to the smallest value an axis is logarithmic.
_WIDE = 20.0
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.axis{stroke:#333}.front{stroke:#1e64be;fill:none;"
    "stroke-width:1.5}.best{fill:#1e64be}.other{fill:#bbb}.over{fill:none;stroke:#c83c28}circle:hover{stroke:#000;"
    "stroke-width:3}"
)


def draw_front(goals: Sequence[Goal], result: SearchResult) -> str:
    """Return an SVG picture: a panel for each goal beyond the first, whose values are upwards.

    Moving the pointer to a candidate shows its recipe and values. Losses far above those of the front are drawn at the
    upper edge.
    """
    first, others = goals[0], goals[1:] or goals
    panels = "".join(
        f'<g transform="translate({place * _WIDTH},0)">{_panel(first, goal, result)}</g>'
        for place, goal in enumerate(others)
    )
    width = _WIDTH * len(others)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}">'
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{panels}</svg>'
    )


def label_of(goal: Goal, result: SearchResult) -> str:
    """Return the name of an axis: ``loss of PSNR``."""
    if goal != "score" or not result.points:
        return "multiply-accumulates" if goal == "macs" else goal
    return f"loss of {result.points[0].outcome.measure}"


# --------------------------------------------------------------------------------------------------- details


class _Scale:
    """From values to pixels; logarithmic where values span much."""

    def __init__(self, values: Sequence[float], low: int, high: int) -> None:
        least, most = min(values), max(values)
        self._log = least > 0 and most / least > _WIDE
        if least == most:
            least, most = least - (abs(least) or 1) / 10, most + (abs(most) or 1) / 10
        if self._log:
            margin = math.exp(math.log(most / least) * 0.05)
            self._least, self._most = least / margin, most * margin
        else:
            margin = (most - least) * 0.05
            self._least, self._most = least - margin, most + margin
        self._low, self._high = low, high

    def at(self, value: float) -> float:
        """Return the pixel of a value; one beyond the ends is put at the end."""
        return self._low + min(max(self._share(value), 0.0), 1.0) * (self._high - self._low)

    def ticks(self) -> list[float]:
        """Return values at equal distances."""
        shares = [place / (_TICKS - 1) for place in range(_TICKS)]
        if self._log:
            return [self._least * (self._most / self._least) ** share for share in shares]
        return [self._least + (self._most - self._least) * share for share in shares]

    def _share(self, value: float) -> float:
        if self._log:
            return math.log(max(value, self._least) / self._least) / math.log(self._most / self._least)
        return (value - self._least) / (self._most - self._least)


def _panel(up: Goal, across: Goal, result: SearchResult) -> str:
    left, top, right, bottom = _BOX
    shown = result.front or result.points
    if not shown:
        return f'<text x="{left}" y="{top + 20}">nothing was measured</text>'
    unit = shown[0].outcome.unit
    heights = [point.values[up] for point in shown]
    span = max(heights) - min(heights) or abs(max(heights)) or 1.0
    heights += [value for point in result.points if (value := point.values[up]) <= max(heights) + 0.5 * span]
    x = _Scale([point.values[across] for point in result.points], left, right)
    y = _Scale(heights, bottom, top)
    parts = [_grid(x, y, up, across, unit)]
    best = {id(point) for point in result.front}
    parts += [_dot(point, x.at(point.values[across]), y.at(point.values[up]), "") for point in result.points
              if id(point) not in best]  # fmt: skip
    pairs = [(point.values[across], point.values[up]) for point in result.front]
    line = sorted(pairs[place] for place in pareto_front(pairs))
    if len(line) > 1:
        corners = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in line)
        parts.append(f'<polyline class="front" points="{corners}"/>')
    parts += [
        _dot(point, x.at(point.values[across]), y.at(point.values[up]), "best") for point in result.front
    ]
    below = f'x="{(left + right) // 2}" y="{_HEIGHT - 8}"'
    beside = f'transform="translate(14,{(top + bottom) // 2}) rotate(-90)"'
    parts.append(f'<text {below} text-anchor="middle">{escape(label_of(across, result))}</text>')
    parts.append(f'<text {beside} text-anchor="middle">{escape(label_of(up, result))}</text>')
    return "".join(parts)


def _grid(x: _Scale, y: _Scale, up: Goal, across: Goal, unit: str) -> str:
    left, top, right, bottom = _BOX
    parts = []
    for value in x.ticks():
        at = f"{x.at(value):.1f}"
        parts.append(f'<line class="grid" x1="{at}" y1="{top}" x2="{at}" y2="{bottom}"/>')
        parts.append(
            f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{_tick(across, value, unit)}</text>'
        )
    for value in y.ticks():
        at = f"{y.at(value):.1f}"
        parts.append(f'<line class="grid" x1="{left}" y1="{at}" x2="{right}" y2="{at}"/>')
        parts.append(
            f'<text x="{left - 6}" y="{at}" dy="4" text-anchor="end">{_tick(up, value, unit)}</text>'
        )
    parts.append(f'<path class="axis" fill="none" d="M{left} {top}V{bottom}H{right}"/>')
    return "".join(parts)


def _tick(goal: Goal, value: float, unit: str) -> str:
    return escape(
        f"{value:.2g} {unit}".rstrip() if goal == "score" else show_goal(goal, float(f"{value:.3g}"))
    )


def _dot(point: Point, x: float, y: float, kind: str) -> str:
    outcome = point.outcome
    kind = kind or ("other" if point.feasible else "over")
    values = [show_goal(goal, value, outcome.unit) for goal, value in point.values.items()]
    title = escape(
        f"{outcome.recipe}\n{outcome.steps} steps, {outcome.measure} {outcome.score}\n{', '.join(values)}"
    )
    radius = 5 if kind == "best" else 3.5
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{title}</title></circle>'
