"""The tables of README.md from what has been done."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.search.front import pareto_front

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

if TYPE_CHECKING:
    from run import Results

Row = dict[str, Any]
PAGE = Path(__file__).with_name("README.md")
#: Budgets of the file, as shares of the float file.
SHARES = (0.5, 0.3, 0.2)
#: What "equal" means for scores that are counted in points or dB.
EQUAL = {"pt": 0.25, "dB": 0.02}


def report(results: Results) -> None:
    """Write the tables into the page."""
    searches = [row for row in results.of(arm="search") if row.get("last")]
    put_table(PAGE, "singles", singles(results))
    put_table(PAGE, "budgets", budgets(results, searches))
    put_table(PAGE, "fronts", fronts(results, searches))
    put_table(PAGE, "mixed", mixed(results))
    put_table(PAGE, "presets", presets(results))
    put_table(PAGE, "costs", costs(results, searches))


def singles(results: Results) -> str:
    """Every technique alone at its defaults."""
    lines: list[str] = []
    for row in _good(results.of(arm="single")):
        lines.append(
            f"| {row['net']} | `{row['recipe']}` | {row['score']} | {row['lost']:+.2f} {row['unit']} | "
            f"{row['size'] / row['size_before']:.0%} | {row['macs'] / row['macs_before']:.0%} | {row['cpu_s']:.0f} |"
        )
    heads = ("network", "recipe", "score", "loss", "file", "multiply-accumulates", "CPU s")
    return _table(heads, lines, left=2)


def _table(heads: Sequence[str], rows: Sequence[str], *, left: int) -> str:
    """A table whose first columns are text; a sentence where there are no rows."""
    if not rows:
        return "Not run yet."
    rule = "".join(f"|{'---' if place < left else '---:'}" for place in range(len(heads)))
    return "\n".join([f"| {' | '.join(heads)} |", f"{rule}|", *rows])


def budgets(results: Results, searches: Sequence[Row]) -> str:
    """The least loss of each side within each budget."""
    lines: list[str] = []
    for last in searches:
        sides = _sides(results, last)
        for share in SHARES:
            cells = ["not run to the end" if rows is None else _best(rows, share) for rows in sides]
            lines.append(f"| {last['net']}, {last['seed']} | {share:.0%} | {' | '.join(cells)} |")
    heads = ("network, seed", "budget", "search", "random recipes", "single techniques", "`ptq`")
    return _table(heads, lines, left=6)


def _sides(results: Results, last: Row) -> list[list[Row] | None]:
    """The results of each side; None of random recipes that have not cost as much as the search yet."""
    net, seed = last["net"], last["seed"]
    at_random = results.of(net=net, arm="random", seed=seed)
    complete = sum(row["cpu_s"] for row in at_random) >= last["total_cpu_s"]
    singles = _good(results.of(net=net, arm="single"))
    return [
        _good(results.of(net=net, arm="search", seed=seed)),
        _good(at_random) if complete else None,
        singles,
        [row for row in singles if row["technique"] == "ptq"],
    ]


def _good(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if not row.get("error") and "lost" in row]


def _best(rows: Sequence[Row], share: float) -> str:
    within = [row for row in rows if row["size"] <= share * row["size_before"]]
    if not within:
        return "none"
    best = min(within, key=lambda row: (row["lost"], row["size"]))
    return f"{best['lost']:+.2f} {best['unit']}, {best['size'] / 1e3:,.0f} kB: `{best['recipe']}`"


def fronts(results: Results, searches: Sequence[Row]) -> str:
    """How many points of the others a front covers, and how many of its own they cover."""
    lines: list[str] = []
    for last in searches:
        mine, *others = _sides(results, last)
        assert mine is not None
        for name, rows in zip(("random recipes", "single techniques", "`ptq`"), others, strict=True):
            if rows is None:
                continue
            best = [rows[place] for place in pareto_front([_values(row) for row in rows])]
            covered = sum(any(_covers(a, b) for a in mine) for b in best)
            lost = sum(any(_covers(b, a) and _values(a) != _values(b) for b in best) for a in mine)
            lines.append(
                f"| {last['net']}, {last['seed']} | {name} | {len(best)} | {covered} | {lost} of {len(mine)} |"
            )
    heads = (
        "network, seed",
        "against",
        "points",
        "covered by the search",
        "of the search's points, covered by them",
    )
    return _table(heads, lines, left=2)


def _values(row: Row) -> tuple[float, float, float]:
    return row["lost"], row["size"], row["macs"]


def _covers(first: Row, second: Row) -> bool:
    return all(a <= b for a, b in zip(_values(first), _values(second), strict=True))


def mixed(results: Results) -> str:
    """Uniform 8 bits and average widths of weights."""
    lines: list[str] = []
    for net in dict.fromkeys(row["net"] for row in results.of(arm="mixed")):
        rows = _good(results.of(net=net, arm="mixed"))
        eight = [row for row in rows if row["width"] == "8"]
        for row in sorted(rows, key=lambda row: -row["size"]):
            size = f"{row['size'] / 1e3:,.0f} kB"
            times = f"1/{eight[0]['size'] / row['size']:.2f}" if eight else ""
            lines.append(
                f"| {net} | `{row['recipe']}` | {row['score']} | {row['lost']:+.2f} {row['unit']} | {size} | {times} |"
            )
    heads = ("network", "recipe", "score", "loss", "file", "of uniform 8 bits")
    return _table(heads, lines, left=2)


def presets(results: Results) -> str:
    """What the presets do."""
    lines: list[str] = []
    for row in _good(results.of(arm="preset")):
        lines.append(
            f"| {row['net']} | `{row['preset']}` | `{row['recipe']}` | {row['before']} | {row['score']} | "
            f"{row['size'] / row['size_before']:.0%} | {row['macs'] / row['macs_before']:.0%} |"
        )
    heads = ("network", "preset", "recipe", "score before", "after", "file", "multiply-accumulates")
    return _table(heads, lines, left=3)


def costs(results: Results, searches: Sequence[Row]) -> str:
    """What searching costs beside the trials."""
    lines: list[str] = []
    for row in results.of(arm="overhead")[-1:]:
        lines.append(f"| {row['trials']} trials that cost nothing, {row['sampler']} | {row['cpu_s']} |")
    for row in results.of(arm="load")[-1:]:
        lines.append(f"| opening a study of {row['trials']:,} past trials | {row['cpu_s']} |")
    for last in searches:
        mean = last["total_cpu_s"] / last["candidates"]
        what = f"a trial of the search of {last['net']}, seed {last['seed']}: mean of {last['candidates']}"
        lines.append(f"| {what} | {mean:.1f} |")
    heads = ("what", "seconds of a processor")
    return _table(heads, lines, left=1)
