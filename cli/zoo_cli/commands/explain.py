"""`zoo explain`: show what rounding does to each tensor of an artifact, and compare two ways of rounding."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.errors import UsageError
from zoo.extras import require
from zoo.progress import progress
from zoo_cli.data_options import data_options, resolve_skip_bad
from zoo_cli.effect_tables import show_effect
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout

if TYPE_CHECKING:
    from zoo.explanation.report import Choice, Comparison, Explanation, TensorReport

#: How many reasons are shown; JSON holds all.
_MOST_REASONS = 8


@click.command(short_help="Show what rounding does to each tensor of an artifact.")
@click.argument("artifact")
@click.option("--input", "takes", default="", help="Input of an ONNX file, as in rgb:3x224x224.")
@click.option("--output", "gives", default="", help="Its output, as in mask:1, logits:10.")
@click.option(
    "--tensor", "pattern", default="", help="Show only these: a part of the name, or a pattern with * and ?."
)
@click.option(
    "--compare",
    default="",
    metavar="OBSERVER,OBSERVER",
    help="Compare two observers, as in minmax,percentile=99.9.",
)
@click.option(
    "--against",
    default="",
    metavar="ARTIFACT",
    help="Another artifact of the same network to compare with; with --effect, where the float weights are from.",
)
@data_options
@click.option(
    "--images",
    default=4,
    type=click.IntRange(1),
    show_default=True,
    help="Number of test images to measure on.",
)
@click.option(
    "--effect", is_flag=True, help="Switch each quantizer off and on, and show which ones cost most."
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Plot values and ranges to this PNG file; with --effect, bars along the layers to this SVG file.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    help="With --effect: write everything to this page, one HTML file.",
)
@click.option(
    "--threads", default=0, type=click.IntRange(0), help="Threads of the engine [all this process may use]."
)
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True, help="Seed of simulated noise.")
@json_option
def command(
    artifact: str,
    takes: str,
    gives: str,
    plot: Path | None,
    effect: bool,
    html: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Print scale, zero point, range, clipped share and error of each quantized tensor of ARTIFACT.

    ARTIFACT is a folder or the id of a checkpoint. The values are those before each rounding, as ONNX
    Runtime computes them on test images. With --compare or --against, two ways of rounding are measured side by
    side: ranges that two observers choose on calibration crops, or those of another artifact. With --effect, the
    outputs are compared with those of the float form, quantizers switched off one layer at a time.
    """
    require("onnx", "Explaining a file")
    from zoo.architectures.own_networks import with_specs_of_files

    names = [artifact, options["against"]]
    artifact, options["against"] = with_specs_of_files(names, takes, gives)
    if effect:
        _effect(artifact, plot, html, as_json, options)
        return
    if html is not None:
        raise UsageError("--html is the report of --effect.", hint="Add --effect, or use --plot FILE.png.")
    if plot is not None:
        from zoo.storage.atomic import check_png_target

        check_png_target(plot, "ranges.png")
    from zoo.explanation.explainer import explain_artifact

    with quiet_stdout(as_json), progress() as reporter:
        result = explain_artifact(artifact, reporter=reporter, **resolve_skip_bad(options))
    if plot is not None:
        from zoo.explanation.plot import draw_histograms

        draw_histograms(result, plot)
    if as_json:
        print_json(result.to_json())
        return
    if result.comparisons:
        _show_comparison(result)
    else:
        _show_tensors(result)
    if plot is not None:
        print_text(f"Wrote {plot}.")


def _effect(
    artifact: str, plot: Path | None, html: Path | None, as_json: bool, options: dict[str, Any]
) -> None:
    from zoo.storage.atomic import atomic_write, check_suffix

    for option, name in (("pattern", "--tensor"), ("compare", "--compare")):
        if options.pop(option):
            raise UsageError(
                f"{name} cannot be combined with --effect.", hint=f"Leave one of the two out: {name}."
            )
    if plot is not None:
        check_suffix(plot, ".svg", "With --effect, plots are SVG files", "effect.svg")
    if html is not None:
        check_suffix(html, ".html", "Reports are HTML files", "report.html")
    from zoo.explanation.effect_measurement import explain_effect
    from zoo.explanation.effect_page import effect_page, effect_svg

    written = [(path, draw) for path, draw in ((plot, effect_svg), (html, effect_page)) if path is not None]
    with contextlib.ExitStack() as files:
        # Opened before the work, which a folder that does not exist would make useless.
        streams = [files.enter_context(atomic_write(path)) for path, _ in written]
        with quiet_stdout(as_json), progress() as reporter:
            result = explain_effect(artifact, reporter=reporter, **resolve_skip_bad(options))
        for stream, (_, draw) in zip(streams, written, strict=True):
            stream.write(draw(result).encode())
    if as_json:
        print_json(result.to_json())
        return
    show_effect(result)
    print_text(*(f"Wrote {path}." for path, _ in written))


def _show_tensors(result: Explanation) -> None:
    columns = ["tensor", "kind", "bits", "scale", "zero", "range", "clipped", "SQNR dB"]
    rows = [_row(tensor) for tensor in result.tensors]
    print_table(columns, rows, right=columns[2:])
    lines = [f"{tensor.name}: {note}" for tensor in _weakest_first(result) for note in tensor.notes]
    _print_some(lines, "notes")
    if result.passed_on:
        print_text(
            f"{result.passed_on} more inherit the levels of the tensor before them (pooling, concatenation)."
        )
    print_text(_measured_on(result))


def _weakest_first(result: Explanation) -> list[TensorReport]:
    return sorted(result.tensors, key=lambda tensor: tensor.choice.sqnr_db if tensor.choice else 1e9)


def _row(tensor: TensorReport) -> list[str]:
    return [
        tensor.name,
        tensor.kind if tensor.channels == 1 else f"{tensor.kind}, {tensor.channels} channels",
        str(tensor.bits),
        _span(*tensor.scale, form="{:.3g}"),
        _span(*tensor.zero_point, form="{:d}"),
        *(_figures(tensor.choice) if tensor.choice else ["", "", ""]),
    ]


def _figures(choice: Choice) -> list[str]:
    shown = "exact" if choice.sqnr_db == float("inf") else f"{choice.sqnr_db:.1f}"
    return [f"{choice.low:.3g} to {choice.high:.3g}", _share(choice.clipped), shown]


def _span(low: float, high: float, form: str) -> str:
    return form.format(low) if low == high else f"{form.format(low)} to {form.format(high)}"


def _share(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:.2g} %"


def _show_comparison(result: Explanation) -> None:
    first, second = result.labels
    heads = [f"{figure}, {label}" for label in (first, second) for figure in ("range", "clipped", "SQNR dB")]
    rows = [
        [
            row.name, row.kind, *_short(row.first), *_short(row.second),
            row.better or "tie", f"{abs(row.gain_db):.1f}" if row.better else "",
        ]
        for row in result.comparisons
    ]  # fmt: skip
    print_table(["tensor", "kind", *heads, "better", "by dB"], rows, right=[*heads, "by dB"])
    differing = sorted((row for row in result.comparisons if row.better), key=lambda row: -abs(row.gain_db))
    _print_some([_line(row) for row in differing], "reasons")
    wins = result.wins()
    print_text(
        f"{first} is better at {wins[first]} of {len(rows)} tensors, {second} at {wins[second]}; "
        f"at {wins['tie']} they are less than 0.1 dB apart.",
        _measured_on(result),
    )


def _short(choice: Choice) -> list[str]:
    return [f"{choice.range:.3g}", *_figures(choice)[1:]]


def _line(row: Comparison) -> str:
    return f"{row.name}: {row.better} by {abs(row.gain_db):.1f} dB; {row.reason}."


def _print_some(lines: list[str], what: str) -> None:
    print_text(*lines[:_MOST_REASONS])
    if len(lines) > _MOST_REASONS:
        print_text(f"... and {len(lines) - _MOST_REASONS} {what} more; --json has all.")


def _measured_on(result: Explanation) -> str:
    images = "1 test image" if result.images == 1 else f"{result.images} test images"
    return f"Measured on {images} of {result.data} in {result.engine}."
