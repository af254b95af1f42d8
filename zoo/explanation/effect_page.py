"""The effect of quantizers as a picture (SVG) of bars along the network, and as a page (HTML) that one can send."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from zoo.explanation.effect_report import shown_db, shown_scores
from zoo.formatting import printable

if TYPE_CHECKING:
    from zoo.explanation.effect_report import Effect, EffectExplanation

_INK, _FAINT, _GRID, _BAR, _WORST, _LINE = "#1e293b", "#64748b", "#e2e8f0", "#94a3b8", "#c2410c", "#2563eb"
#: Width of the picture, and where its bars begin and end.
_WIDTH, _LEFT, _RIGHT = 960, 250, 620
_CURVE_LEFT, _CURVE_RIGHT = 700, 930
_ROW, _TOP = 18, 74
_LONGEST_NAME = 36
#: How many layers are coloured as the worst.
_COLOURED = 3
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1e293b;background:#fff;max-width:980px;margin:2em auto;"
    "padding:0 1em}"
    "h1{font-size:1.4em;overflow-wrap:anywhere}h2{font-size:1.1em;margin-top:2em}svg{width:100%;height:auto}"
    "table{border-collapse:collapse;font-size:14px}td,th{padding:.25em .8em;border-bottom:1px solid #e2e8f0;"
    "text-align:right}td:first-child,th:first-child{text-align:left;overflow-wrap:anywhere}"
    "footer{color:#64748b;font-size:13px;margin-top:2em}"
)


def effect_svg(found: EffectExplanation) -> str:
    """Return bars of each layer's share of the error, in the order of the network, and the error up to there."""
    worst = {layer.name for layer in found.ranking()[:_COLOURED]}
    height = _TOP + _ROW * len(found.layers) + 20
    bottom = height - 16
    largest = max((layer.share for layer in found.layers), default=0.0) or 1.0
    title = f"Where the error of {found.artifact} comes from"
    parts = [
        _text(20, 28, title[:90], 16),
        _text(_LEFT, 56, f"share of the error (longest bar: {100 * largest:.0f} %)", 12, _FAINT),
        _text(_CURVE_LEFT, 56, "dB, quantized up to here", 12, _FAINT),
        f'<line x1="{_LEFT}" y1="{_TOP - 8}" x2="{_LEFT}" y2="{bottom}" stroke="{_FAINT}"/>',
    ]
    for row, layer in enumerate(found.layers):
        y = _TOP + row * _ROW
        width = max(layer.share / largest * (_RIGHT - _LEFT), 0.5)
        colour = _WORST if layer.name in worst else _BAR
        parts += [
            _text(_LEFT - 8, y + 11, _shortened(layer.name), 12, _INK, ' text-anchor="end"'),
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_ROW - 5}" fill="{colour}">'
            f"<title>{_safe(_told(layer, found))}</title></rect>",
            _text(_LEFT + width + 5, y + 11, f"{100 * layer.share:.0f} %", 11, _FAINT),
        ]
    parts += _curve(found.layers)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif">\n<title>{_safe(title)}</title>\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def effect_page(found: EffectExplanation) -> str:
    """Return a page that needs no other file: the figures, the advice, the picture and the table."""
    title = f"Where the error of {found.artifact} comes from"
    columns, rows = effect_table(found)
    parts = [
        f"<h1>{_safe(title)}</h1>",
        *(f"<p>{_safe(line)}</p>" for line in summary(found)),
        "<h2>What to do</h2><ul>",
        *(f"<li>{_safe(line)}</li>" for line in found.advice),
        "</ul><h2>Along the network</h2>",
        effect_svg(found),
        "<h2>Layers, the largest share first</h2>",
        _table(columns, rows),
    ]
    if found.singles:
        columns, rows = single_table(found)
        parts += ["<h2>Single quantizers of the first of them</h2>", _table(columns, rows)]
    parts.append(f"<footer>{_safe(measured_on(found))} {_safe(found.fingerprint)}</footer>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_safe(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def summary(found: EffectExplanation) -> list[str]:
    """Return lines on the outputs as a whole."""
    weights = "not known" if found.weights_db is None else f"{shown_db(found.weights_db)}"
    return [
        f"Signal to error of the outputs against the float form, in dB: {shown_db(found.total_db)}; "
        f"only weights rounded: {weights}; only activations rounded: {shown_db(found.activations_db)}.",
        *shown_scores(found.scores),
    ]


def effect_table(found: EffectExplanation) -> tuple[list[str], list[list[str]]]:
    """Return column heads and rows of the layers, the largest share first."""
    columns = ["layer", "quantizers", "share", "won if off, dB", "alone on, dB", "up to here, dB"]
    rows = [
        [layer.name, str(len(layer.quantizers)), *_figures(layer, found), shown_db(layer.until_db)]
        for layer in found.ranking()
    ]
    return columns, rows


def single_table(found: EffectExplanation) -> tuple[list[str], list[list[str]]]:
    """Return column heads and rows of the single quantizers, the largest share first."""
    singles = sorted(found.singles, key=lambda each: -each.share)
    rows = [[each.name, each.part, *_figures(each, found)] for each in singles]
    return ["tensor", "kind", "share", "won if off, dB", "alone on, dB"], rows


def measured_on(found: EffectExplanation) -> str:
    """Return what was measured with, as a sentence."""
    images = "1 test image" if found.images == 1 else f"{found.images} test images"
    return f"Measured on {images} of {found.data} in {found.engine}."


# ------------------------------------------------------------------------------------------------------ details


def _figures(effect: Effect, found: EffectExplanation) -> list[str]:
    won = effect.won_db(found.total_db)
    return [f"{100 * effect.share:.0f} %", "all" if math.isinf(won) else f"{won:.2f}", shown_db(effect.on_db)]


def _told(layer: Effect, found: EffectExplanation) -> str:
    share, won, alone = _figures(layer, found)
    return f"{layer.name}: {share} of the error, {won} dB won if off, {alone} dB alone on"


def _curve(layers: Sequence[Effect]) -> Iterable[str]:
    """Draw signal to error of the network quantized up to each layer, one point per row."""
    values = [layer.until_db for layer in layers]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return []
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0
    points = [
        (
            _CURVE_LEFT + (value - low) / span * (_CURVE_RIGHT - _CURVE_LEFT),
            _TOP + row * _ROW + (_ROW - 5) / 2,
        )
        for row, value in enumerate(values)
        if value is not None and math.isfinite(value)
    ]
    bottom = _TOP + _ROW * len(layers)
    lines = [
        f'<line x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{bottom}" stroke="{_GRID}"/>'
        for x in (_CURVE_LEFT, _CURVE_RIGHT)
    ]
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    lines.append(f'<polyline points="{drawn}" fill="none" stroke="{_LINE}" stroke-width="2"/>')
    return [
        *lines,
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_LINE}"/>' for x, y in points),
        _text(_CURVE_LEFT, bottom + 14, f"{low:.1f}", 11, _FAINT),
        _text(_CURVE_RIGHT, bottom + 14, f"{high:.1f}", 11, _FAINT, ' text-anchor="end"'),
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_safe(cell)}</th>" for cell in columns)
    body = "\n".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _text(x: float, y: float, content: str, size: int, fill: str = _INK, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}"{more}>{_safe(content)}</text>'


def _safe(text: str) -> str:
    """Names come from files: neither markup nor control characters of theirs may reach a browser."""
    return escape(printable(text))


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"...{name[-_LONGEST_NAME + 3 :]}"
