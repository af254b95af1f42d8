"""`zoo search`: find the best recipes of a space under a budget."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from zoo.errors import UsageError
from zoo.formatting import seconds
from zoo.pipeline.request import PRECISIONS
from zoo.progress import progress
from zoo.search import SearchRequest, SearchResult, preview, search
from zoo.search.api import open_space
from zoo.search.default_space import default_space
from zoo.search.duration_estimate import estimate_duration
from zoo.search.front_report import REPORT_NAME
from zoo.search.goals import (
    DEFAULT_GOALS,
    FOREIGN_GOALS,
    GOALS,
    Goal,
    heading,
    parse_budget,
    parse_goals,
    show_goal,
)
from zoo.search.latency_source import is_this_machine
from zoo.search.pick import PICKS, pick
from zoo.search.search_request import DEFAULT_MINUTES, DEFAULT_STEPS, DEFAULT_TRIALS
from zoo.search.study_log import SAMPLERS
from zoo_cli.data_options import data_options, resolve_skip_bad
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout

#: Options of `zoo apply`, which every candidate is carried out with.
_STATED = (
    "data", "skip_bad", "photos", "weights", "weights_key", "partial", "batch", "crop", "learning_rate", "precision",
    "images", "threads", "half_weights", "input", "output", "device", "seed",
)  # fmt: skip
_SHOWN = 20


@click.command(short_help="Find the best recipes under a budget.")
@click.argument("architecture", required=False)
@click.option(
    "--space", help="Recipes to choose from, as in 'depthwise?+{ptq,qat}(bits=4..8)' [by the task]."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the search [out/ARCHITECTURE-search]."
)
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="DIR", help="Continue the search of this folder."
)
@click.option(
    "--pick", type=click.Choice(PICKS), help="Write the artifact of a point of the front to --out, and end."
)
@click.option(
    "--goal",
    "goals",
    multiple=True,
    metavar="GOAL",
    help=f"What to optimize, of {', '.join(GOALS)}; repeatable [{', '.join(DEFAULT_GOALS)}].",
)
@click.option("--latency", metavar="TIME", help="Budget, as in 20ms.")
@click.option("--size", metavar="BYTES", help="Budget of model.onnx, as in 2MB.")
@click.option("--memory", metavar="BYTES", help="Budget of peak memory for the example input, as in 200MB.")
@click.option("--macs", metavar="COUNT", help="Budget of multiply-accumulates, as in 1.5G.")
@click.option("--max-loss", metavar="LOSS", help="Largest loss of the first measure: 1pt, 0.3dB or a number.")
@click.option("--trials", type=click.IntRange(1), help=f"Candidates at most [{DEFAULT_TRIALS}].")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), help=f"Time at most [{DEFAULT_MINUTES:g}]."
)
@click.option(
    "--steps", type=click.IntRange(0), help=f"Steps of each training of a finalist [{DEFAULT_STEPS}]."
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that carry candidates out [1].")
@click.option(
    "--ray",
    default="",
    metavar="ADDRESS",
    help="Carry candidates out on a Ray cluster: auto, or ray://head:10001.",
)
@click.option(
    "--latency-model",
    default="",
    metavar="FILE",
    help="Predict latencies of --device by this model, which zoo bench made there.",
)
@click.option(
    "--sampler", type=click.Choice(SAMPLERS), default="tpe", show_default=True, help="Proposes candidates."
)
@click.option("--storage", default="", metavar="URL", help="Storage of Optuna [a file of the folder].")
@click.option("--dry-run", is_flag=True, help="Show the size of the space and the first candidates, and end.")
@click.option("--input", default="", help="Input of a network of your own, as in rgb:3x256x256.")
@click.option("--output", default="", help="Its output, as in mask:1, logits:10, rgb:3x2.")
@data_options
@click.option("--weights", default="auto", metavar="NAME", help="As of zoo apply [auto].")
@click.option("--weights-key", default="", help="As of zoo apply.")
@click.option("--partial", is_flag=True, help="As of zoo apply.")
@click.option("--batch", type=click.IntRange(1), help="Crops per step.")
@click.option("--crop", type=click.IntRange(0), help="Side of the crops in input pixels.")
@click.option("--learning-rate", type=float, help="Learning rate of Adam.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Precision of training.")
@click.option("--images", type=click.IntRange(1), help="Evaluate on only this many test images.")
@click.option("--threads", type=click.IntRange(0), help="Threads of the engine.")
@click.option("--half-weights", is_flag=True, help="Store float weights of model.onnx in 16 bits.")
@click.option("--device", default="", metavar="ID", help="Profile of the target board; adapts every recipe.")
@click.option(
    "--seed", default=0, type=click.IntRange(0), show_default=True, help="Seed of every random choice."
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    architecture: str | None,
    resume: Path | None,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Search recipes for ARCHITECTURE that nothing beats in score, size and latency.

    If it is interrupted or killed, the same command, or --resume, continues it.
    """
    if given["pick"]:
        _pick(resume, given["pick"], given["out"], as_json)
        return
    request = _resumed(resume, given) if resume else _begun(context, architecture, given)
    if dry_run:
        _preview(request, as_json)
        return
    with quiet_stdout(as_json), progress() as reporter:
        try:
            result = search(request, reporter)
        except KeyboardInterrupt:
            reporter.finish()
            reporter.note(
                f"What was found so far is kept. Continue with:  zoo search --resume {request.folder}"
            )
            raise
    if as_json:
        print_json(_as_json(request, result))
    else:
        _show(request, result)


# --------------------------------------------------------------------------------------------------- details


def _begun(context: click.Context, architecture: str | None, given: dict[str, Any]) -> SearchRequest:
    if architecture is None:
        raise UsageError("An architecture is required.", hint="For example:  zoo search unet --size 2MB")
    stated = {
        name: given[name]
        for name in _STATED
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT and given[name] is not None
    }
    stated = resolve_skip_bad(stated)
    if "photos" in stated:
        stated["photos"] = [str(path) for path in stated["photos"]]
    name = "".join(c if c.isalnum() or c in "+-._" else "-" for c in architecture).strip("-.")[:60]
    counts = {key: given[key] for key in ("trials", "minutes", "steps", "workers") if given[key] is not None}
    goals = parse_goals(given["goals"])
    if not (given["goals"] or given["latency_model"] or given["latency"] or is_this_machine(given["device"])):
        goals = FOREIGN_GOALS
    return SearchRequest(
        architecture,
        given["space"] or default_space(architecture, stated.get("input", ""), stated.get("output", "")),
        given["out"] or Path("out", f"{name}-search"),
        stated,
        goals,
        _limits(given),
        given["max_loss"],
        sampler=given["sampler"],
        seed=given["seed"],
        storage=given["storage"],
        latency_model=given["latency_model"],
        ray=given["ray"],
        **counts,
    )


def _resumed(folder: Path, given: dict[str, Any]) -> SearchRequest:
    changed = {name: given[name] or None for name in ("max_loss", "trials", "minutes", "workers", "ray")}
    limits = _limits(given)
    return SearchRequest.load(folder, **changed, **({"limits": limits} if limits else {}))


def _limits(given: dict[str, Any]) -> dict[Goal, float]:
    goals: tuple[Goal, ...] = ("size", "latency", "memory", "macs")
    return {goal: parse_budget(goal, given[goal]) for goal in goals if given[goal]}


def _pick(folder: Path | None, kind: str, out: Path | None, as_json: bool) -> None:
    if folder is None:
        raise UsageError(
            "--pick needs the folder of a search.", hint=f"Name it:  zoo search --resume DIR --pick {kind}"
        )
    picked = pick(folder, kind, out)
    if as_json:
        print_json(picked)
    else:
        print_text(f"Wrote {picked.artifact}: {picked.recipe}", f"Made again by:  {picked.command}")


def _preview(request: SearchRequest, as_json: bool) -> None:
    seen = preview(request)
    if as_json:
        with quiet_stdout(True):
            expected = estimate_duration(request, open_space(request))
        print_json({**dataclasses.asdict(seen), "expected": expected})
        return
    print_text(f"{request.space}", f"{seen.size:,} recipes" + (
        "" if seen.structures is None else f", {seen.structures:,} legal combinations of techniques"
    ))  # fmt: skip
    print_table(["choice", "values"], seen.axes, right=["values"])
    print_text("First candidates:", *(f"  {recipe}" for recipe in seen.first))
    with progress() as reporter:
        reporter.start("carry out one candidate to estimate the time", None, "candidates")
        expected = estimate_duration(request, open_space(request))
    steps = f", and a training step {seconds(expected.step)}" if expected.step else ""
    print_text(
        f"Expected to take {seconds(expected.seconds)}: {expected.recipe} without training took "
        f"{seconds(expected.candidate)}{steps}."
    )


def _show(request: SearchRequest, result: SearchResult) -> None:
    columns = [
        "recipe",
        "steps",
        *(heading(goal, predicted=bool(request.latency_model)) for goal in request.goals),
        "score",
    ]
    rows = [
        [
            point.outcome.recipe,
            str(point.outcome.steps),
            *(show_goal(goal, point.values[goal], point.outcome.unit) for goal in request.goals),
            point.outcome.score,
        ]
        for point in result.front[:_SHOWN]
    ]
    if rows:
        print_table(columns, rows, title="Nothing that was tried beats these", right=columns[1:])
    else:
        print_text(_nothing(result))
    tried = len({point.candidate.number for point in result.points})
    print_text(
        f"{tried} candidates in {seconds(result.seconds)}; {result.trained} trained in full, {result.saved} such "
        f"trainings saved"
        + (f" ({result.beyond} exceed a budget by their counts)" if result.beyond else "")
        + (
            f"; {result.never_run} never run, because their counts exceed a budget"
            if result.never_run
            else ""
        )
        + "."
    )
    if result.failed:
        print_text(f"{len(result.failed)} candidates failed; the first: {_reason(result)}")
    print_text(f"All of them, with a plot:  {request.folder / REPORT_NAME}")
    if rows:
        print_text(f"Take one:  zoo search --resume {request.folder} --pick knee --out DIR")


def _nothing(result: SearchResult) -> str:
    if not result.points:
        return "No candidate was measured."
    nearest = result.nearest
    missed = ", ".join(f"{goal} {share:+.0%}" for goal, share in nearest.violations.items() if share > 0)
    return f"No candidate keeps the budget. The nearest is {nearest.outcome.recipe}: {missed}."


def _reason(result: SearchResult) -> str:
    candidate = result.failed[0]
    error = next(each.error for each in candidate.outcomes.values() if each.error)
    return f"{candidate.recipe}: {error.splitlines()[0]}"


def _as_json(request: SearchRequest, result: SearchResult) -> dict[str, Any]:
    return {
        "folder": str(request.folder),
        "front": [
            {
                "recipe": point.outcome.recipe,
                "steps": point.outcome.steps,
                "values": dict(point.values),
                "score": point.outcome.score,
                "command": request.command(
                    point.outcome.recipe, point.outcome.steps, point.outcome.trainings
                ),
            }
            for point in result.front
        ],
        "candidates": len({point.candidate.number for point in result.points}),
        "failed": len(result.failed),
        "trained_in_full": result.trained,
        "trainings_saved": result.saved,
        "never_run": result.never_run,
        "seconds": round(result.seconds, 1),
    }
