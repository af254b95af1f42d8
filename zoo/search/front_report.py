"""What a search found as a page that needs nothing else: plot, front, importance of each choice, all candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from zoo.formatting import seconds
from zoo.search.front_plot import draw_front, label_of
from zoo.search.goals import SOURCES, Goal, heading, show_goal
from zoo.search.latency_source import latency_note
from zoo.search.search_request import SearchRequest
from zoo.search.search_result import Point, SearchResult
from zoo.storage.atomic import write_bytes_atomic

REPORT_NAME, PLOT_NAME = "report.html", "front.svg"
#: Rows of the table of all candidates.
_MOST_ROWS = 2000
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:"
    "collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3em .6em;text-align:left;vertical-align:top}"
    "td.n,th.n{text-align:right;white-space:nowrap}code{font-size:13px;word-break:break-word}.bar{background:#1e64be;"
    "height:.8em;display:inline-block}svg{max-width:100%;height:auto}.over{color:#a33}"
)


def write_report(
    request: SearchRequest,
    result: SearchResult,
    importances: Mapping[Goal, Mapping[str, float]],
    together: Mapping[str, float] | None = None,
) -> Path:
    """Write ``front.svg`` and ``report.html`` into the folder of a search, and return the page.

    Args:
        request: The search.
        result: What it found.
        importances: How much each choice explains of each goal, between 0 and 1, by the name of the choice.
        together: Latencies of the front's artifacts that were measured together, by fingerprint.

    Raises:
        OutputError: A file cannot be written.
    """
    plot = draw_front(request.goals, result)
    write_bytes_atomic(request.folder / PLOT_NAME, plot.encode())
    title = f"Search of {request.architecture}"
    limits = [f"{goal} {show_goal(goal, limit)}" for goal, limit in request.limits.items()]
    limits += [f"loss {request.max_loss}"] if request.max_loss else []
    body = [
        f"<h1>{escape(title)}</h1><p>Space: <code>{escape(request.space)}</code><br>Budgets: "
        f"{escape(', '.join(limits) or 'none')}<br>{_summary(result)}</p>",
        plot,
        "<p>Blue: no other candidate that keeps the budgets is as good in every goal and better in one. Gray: the "
        "others. Red circles: beyond a budget. The pointer shows recipe and values.</p><ul>",
        *(
            f"<li>{escape(label_of(goal, result))}: {escape(_source(request, goal))}</li>"
            for goal in request.goals
        ),
        "</ul><h2>What nothing beats</h2>",
        _table(request, result.front, commands=True, together=together or {}),
        "<h2>What each choice explains</h2>",
        _importances(importances),
        "<h2>All candidates</h2>",
        _table(request, result.points[:_MOST_ROWS]),
        _failures(result),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
    )
    path = request.folder / REPORT_NAME
    write_bytes_atomic(path, page.encode())
    return path


# --------------------------------------------------------------------------------------------------- details


def _source(request: SearchRequest, goal: Goal) -> str:
    return latency_note(request) if goal == "latency" else SOURCES[goal]


def _summary(result: SearchResult) -> str:
    tried = len({point.candidate.number for point in result.points})
    return (
        f"{tried} candidates in {seconds(result.seconds)}, {result.trained} trained in full; {result.saved} such "
        f"trainings were saved, {result.beyond} of them by exact counts; {result.never_run} candidates were never run, "
        f"because their counts exceed a budget; {len(result.failed)} failed."
    )


def _table(
    request: SearchRequest,
    points: Sequence[Point],
    *,
    commands: bool = False,
    together: Mapping[str, float] | None = None,
) -> str:
    heads = [
        "recipe",
        "steps",
        *(heading(goal, predicted=bool(request.latency_model)) for goal in request.goals),
        "score",
        *(["latency, measured together"] if together else []),
    ]
    rows = []
    for point in points:
        outcome = point.outcome
        recipe = f"<code>{escape(outcome.recipe)}</code>"
        if commands:
            command = request.command(outcome.recipe, outcome.steps, outcome.trainings)
            recipe += f"<details><summary>command</summary><code>{escape(command)}</code></details>"
        cells = [
            str(outcome.steps),
            *(show_goal(g, point.values[g], outcome.unit) for g in request.goals),
            outcome.score,
        ]
        if together:
            timed = together.get(outcome.fingerprint)
            cells.append("" if timed is None else show_goal("latency", timed))
        kind = "" if point.feasible else ' class="over"'
        numbers = "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
        rows.append(f"<tr{kind}><td>{recipe}</td>{numbers}</tr>")
    head = "".join(
        f'<th class="n">{escape(each)}</th>' if place else f"<th>{each}</th>"
        for place, each in enumerate(heads)
    )
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _importances(importances: Mapping[Goal, Mapping[str, float]]) -> str:
    names = sorted(
        {name for each in importances.values() for name in each},
        key=lambda name: -sum(each.get(name, 0.0) for each in importances.values()),
    )
    if not names:
        return "<p>Too few candidates to say.</p>"
    head = "".join(f"<th>{escape(goal)}</th>" for goal in importances)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_bar(each.get(name, 0.0)) for each in importances.values())}</tr>"
        for name in names
    )
    note = "<p>By PED-ANOVA, over the candidates that have the choice.</p>"
    return f"<table><tr><th>choice</th>{head}</tr>{rows}</table>{note}"


def _bar(share: float) -> str:
    return f'<td><span class="bar" style="width:{90 * share:.0f}px"></span> {share:.0%}</td>'


def _failures(result: SearchResult) -> str:
    if not result.failed:
        return ""
    rows = "".join(
        f"<li><code>{escape(candidate.recipe)}</code>: {escape(outcome.error)}</li>"
        for candidate in result.failed
        for outcome in candidate.outcomes.values()
        if outcome.error
    )
    return f"<h2>What failed</h2><ul>{rows}</ul>"
