"""Draw the charts of the documentation as SVG files, from the numbers in the repository.

    python docs/images/charts.py        # write pareto.svg and breadth.svg

pareto.svg: size and latency of the shipped checkpoints against their PSNR, from their metrics.json.
breadth.svg: the outcome of each technique on each family of networks, from docs/benchmarks/breadth/results.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INK, FAINT, GRID = "#1e293b", "#64748b", "#e2e8f0"
#: checkpoints in the order in which each was made from the one before
CHAIN = {"unet": "#64748b", "lighter-unet": "#2563eb", "lighter-unet-int8": "#c2410c"}


def svg(width: int, height: int, parts: Iterable[str], title: str) -> str:
    """Return a document on a white card, which is legible on dark pages too."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif">\n<title>{escape(title)}</title>\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def text(x: float, y: float, content: str, size: float = 12, fill: str = INK, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}"{more}>{escape(content)}</text>'


# --------------------------------------------------------------------------------------------------- Pareto


@dataclass(frozen=True)
class Point:
    """A shipped checkpoint.

    Attributes:
        megabytes: Size of model.onnx.
        latency: Relative to `unet`.
        psnr: In dB.
    """

    name: str
    megabytes: float
    latency: float
    psnr: float


def points() -> list[Point]:
    """Return the shipped checkpoints.

    Latencies are only comparable within a metrics.json, so the ratios are multiplied along the chain.
    """
    found, latency = [], 1.0
    for name in CHAIN:
        metrics = json.loads((ROOT / "checkpoints" / name / "metrics.json").read_text())
        figures = {figure["key"]: figure for figure in metrics["figures"]}
        if found:
            latency *= figures["latency_ms"]["after"] / figures["latency_ms"]["before"]
        found.append(Point(name, figures["file_mb"]["after"], latency, figures["psnr_db"]["after"]))
    return found


def classical() -> float:
    """Return the PSNR in dB of the best classical path, from the page that measures it."""
    page = (ROOT / "docs" / "benchmarks" / "quality" / "README.md").read_text()
    return max(float(psnr) for psnr in re.findall(r"^\| (?:LibRaw|the same).*?\| ([\d.]+) dB", page, re.M))


def pareto() -> str:
    found, baseline = points(), classical()
    parts: list[str] = []
    panels: list[tuple[str, Callable[[Point], float], Sequence[float], str]] = [
        ("size of model.onnx, MB", lambda point: point.megabytes, (1, 2, 4, 8, 16), "{:.1f} MB"),
        ("latency, relative to unet", lambda point: point.latency, (0.25, 0.5, 1), "{:.2f}×"),
    ]
    for panel, (label, measure, ticks, form) in enumerate(panels):
        parts += _pareto_panel(60 + panel * 420, found, baseline, label, measure, ticks, form)
    return svg(880, 340, parts, "PSNR of the shipped checkpoints against their size and latency")


def _pareto_panel(
    left: int,
    found: Sequence[Point],
    baseline: float,
    label: str,
    measure: Callable[[Point], float],
    ticks: Sequence[float],
    form: str,
) -> list[str]:
    width, top, bottom, low, high = 370, 40, 280, 18.5, 23.5
    start, end = math.log(ticks[0] / 1.15), math.log(ticks[-1] * 1.25)

    def across(value: float) -> float:
        return left + width * (math.log(value) - start) / (end - start)

    def down(psnr: float) -> float:
        return bottom - (bottom - top) * (psnr - low) / (high - low)

    parts = []
    for psnr in range(19, 24):
        parts.append(f'<path d="M{left} {down(psnr):.1f}h{width}" stroke="{GRID}"/>')
        parts.append(text(left - 8, round(down(psnr) + 4, 1), str(psnr), 11, FAINT, ' text-anchor="end"'))
    parts += [
        text(round(across(tick), 1), bottom + 18, f"{tick:g}", 11, FAINT, ' text-anchor="middle"')
        for tick in ticks
    ]
    parts.append(text(left, 24, "PSNR, dB", 12, FAINT))
    parts.append(text(left + width / 2, bottom + 40, label, 12, FAINT, ' text-anchor="middle"'))
    parts.append(f'<path d="M{left} {bottom}h{width}" stroke="{FAINT}"/>')
    line = round(down(baseline), 1)
    parts.append(f'<path d="M{left} {line}h{width}" stroke="{FAINT}" stroke-dasharray="5 4"/>')
    parts.append(text(left + 6, line - 7, f"best classical denoiser, {baseline:.1f} dB", 11, FAINT))
    places = [(round(across(measure(point)), 1), round(down(point.psnr), 1)) for point in found]
    route = " ".join(f"{x:g},{y:g}" for x, y in places)
    parts.append(f'<polyline points="{route}" fill="none" stroke="#94a3b8" stroke-width="1.5"/>')
    # labels alternate above and below, so that neighbours do not touch
    for place, (point, (x, y)) in enumerate(zip(found, places, strict=True)):
        colour = CHAIN[point.name]
        anchor = ' text-anchor="end"' if place == 0 else ' text-anchor="middle"'
        shift, at = (6, y + 24) if place == 0 else (0, y - 30 if place == 1 else y + 24)
        parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="6" fill="{colour}"/>')
        parts.append(text(x + shift, at, point.name, 12, colour, f'{anchor} font-weight="600"'))
        parts.append(
            text(x + shift, at + 15, f"{form.format(measure(point))}, {point.psnr:.2f} dB", 11, INK, anchor)
        )
    return parts


# -------------------------------------------------------------------------------------------------- breadth

#: the worst outcome first, with the colour and the legend of each
OUTCOMES = {
    "failed": ("#c81e1e", "failed"),
    "unsteady": ("#f59e0b", "unsteady"),
    "refused": ("#b6c2d6", "refused, with a reason"),
    "nothing": ("#e7e9ee", "nothing to do"),
    "pass30": ("#a7dcbf", "30 dB"),
    "pass50": ("#4fb382", "50 dB"),
    "pass80": ("#15803d", "80 dB and more"),
}
BLOCKS, CELL, ROW, LABEL, HEAD = 2, 13, 12, 148, 96

Cases = dict[str, str]


def outcome(record: dict[str, Any]) -> str:
    if record["outcome"] != "pass":
        return str(record["outcome"])
    return f"pass{max(least for least in (30, 50, 80) if record['agreement_db'] >= least)}"


def family(net: str) -> str:
    """Return the family of a network; timm's are represented by one network each."""
    library, _, name = net.partition("-")
    if library == "timm":
        return name
    found = re.match(r"wide_resnet|[a-z]+?(?=v?\d|_|$)", name)
    return f"{found[0] if found else name} *"


def families() -> dict[str, Cases]:
    """Return the worst outcome of each technique, by family; torchvision's first."""
    ranks = list(OUTCOMES)
    found: dict[str, Cases] = {}
    nets = sorted((ROOT / "docs/benchmarks/breadth/results").glob("*.jsonl"), key=_library_first)
    for path in nets:
        records = {record["recipe"]: record for record in map(json.loads, path.read_text().splitlines())}
        if records[""]["outcome"] != "pass":
            continue  # does not run as it is
        cases = found.setdefault(family(path.stem), {})
        for recipe, record in records.items():
            if recipe and "+" not in recipe:
                cases[recipe] = min(outcome(record), cases.get(recipe, "pass80"), key=ranks.index)
    return found


def _library_first(path: Path) -> tuple[bool, str]:
    return path.stem.startswith("timm"), path.stem


def breadth() -> str:
    found = families()
    techniques = sorted({recipe for cases in found.values() for recipe in cases})
    rows = math.ceil(len(found) / BLOCKS)
    block = LABEL + CELL * len(techniques) + 18
    parts: list[str] = []
    squares: dict[str, list[str]] = {key: [] for key in OUTCOMES}
    for index in range(min(BLOCKS, math.ceil(len(found) / rows))):
        for column, technique in enumerate(techniques):
            x = index * block + LABEL + column * CELL + 10
            parts.append(text(x, HEAD - 6, technique, 10, INK, f' transform="rotate(-60 {x} {HEAD - 6})"'))
    for place, (name, cases) in enumerate(found.items()):
        left, top = place // rows * block + LABEL, HEAD + place % rows * ROW
        shown = name if len(name) < 26 else f"{name[:24]}…"
        parts.append(text(left - 6, top + 9, shown, 9, INK, ' text-anchor="end"'))
        for column, technique in enumerate(techniques):
            if technique in cases:
                squares[cases[technique]].append(
                    f"M{left + column * CELL} {top}h{CELL - 1}v{ROW - 1}h{1 - CELL}z"
                )
    parts += [
        f'<path fill="{OUTCOMES[key][0]}" d="{"".join(each)}"/>' for key, each in squares.items() if each
    ]
    foot = HEAD + rows * ROW + 14
    parts += _legend(16, foot, "The file agrees with the network to", ("pass30", "pass50", "pass80"))
    parts += _legend(16, foot + 22, "Otherwise", ("nothing", "refused", "unsteady", "failed"))
    return svg(
        BLOCKS * block + 20, foot + 48, parts, "The outcome of each technique on each family of networks"
    )


def _legend(x: int, y: int, title: str, keys: Sequence[str]) -> list[str]:
    parts = [text(x, y + 10, title, 11, FAINT)]
    x += 205
    for key in keys:
        colour, legend = OUTCOMES[key]
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>')
        parts.append(text(x + 17, y + 10, legend, 11))
        x += 36 + round(6.1 * len(legend))
    return parts


CHARTS: dict[str, Callable[[], str]] = {"pareto.svg": pareto, "breadth.svg": breadth}


def main() -> None:
    for name, draw in CHARTS.items():
        (HERE / name).write_text(draw())


if __name__ == "__main__":
    main()
