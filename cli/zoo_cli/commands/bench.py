"""``zoo bench``: compare the speed of artifacts."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.progress import progress
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout
from zoo_cli.param_types import FrameSize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.artifacts.artifact import Artifact
    from zoo.benchmarking.comparison import BenchReport, BenchResult
    from zoo.contracts import DeviceProfile, Reporter


@click.command()
@click.argument("artifacts", nargs=-1, required=True, metavar="ARTIFACT...")
@click.option("--input", "takes", default="", help="Input of the ONNX files, as in rgb:3x224x224.")
@click.option("--output", "gives", default="", help="Their output, as in mask:1, logits:10.")
@click.option("--vs", metavar="ARTIFACT", help="Artifact that the others are compared with [the first].")
@click.option("--engine", "engines", multiple=True, metavar="ID", help="Engine; repeatable.")
@click.option("--device", default="host", show_default=True, metavar="ID", help="Device profile.")
@click.option(
    "--side", default=0, type=click.IntRange(min=0), help="Side of the input tensor [the example's]."
)
@click.option("--file", type=click.Path(path_type=Path), help="File to measure the steps of `zoo run` on.")
@click.option(
    "--frame",
    default="1024x1024",
    type=FrameSize(),
    show_default=True,
    help="Size of the file that is generated without --file.",
)
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(3, 10_000), help="Timed rounds.")
@click.option("--threads", default=0, type=click.IntRange(min=0), help="Threads of an engine [the device's].")
@click.option("--plot", metavar="FILE.png", type=click.Path(path_type=Path), help="Draw the roofline.")
@click.option(
    "--record",
    metavar="artifact|FILE",
    help="Keep median, memory and energy by device and engine: in the artifacts, or in this registry.toml.",
)
@click.option(
    "--latency-model",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Fit a model that predicts latencies on this machine, for zoo search, write it, and end.",
)
@json_option
def command(
    artifacts: tuple[str, ...],
    vs: str | None,
    takes: str,
    gives: str,
    engines: tuple[str, ...],
    device: str,
    side: int,
    file: Path | None,
    frame: tuple[int, int],
    rounds: int,
    threads: int,
    plot: Path | None,
    record: str | None,
    latency_model: Path | None,
    as_json: bool,
) -> None:
    """Time artifacts in interleaved rounds, after a warm-up, and compare them by the median ratio over rounds.

    Loading, the first run and the peak memory are measured in a separate process, and the steps of `zoo run` on a
    whole file. The times of a single artifact are not a comparison: they depend on this machine at this moment.
    An engine's run ends when its result is in memory, on a GPU too.
    """
    from zoo import plugins
    from zoo.architectures.own_networks import with_specs_of_files
    from zoo.benchmarking.comparison import Workload, list_candidates, open_artifacts, run_bench
    from zoo.benchmarking.recording import Recording
    from zoo.checkpoints.resolver import locate_artifact
    from zoo.storage.atomic import check_png_target

    if plot is not None:
        check_png_target(plot, "roofline.png")
    names = ((vs,) if vs else ()) + tuple(name for name in artifacts if name != vs)
    names = with_specs_of_files(names, takes, gives)
    with quiet_stdout(as_json), progress() as reporter:
        profile = plugins.device(device)
        found = open_artifacts(names, functools.partial(locate_artifact, files=True, reporter=reporter))
        if latency_model is not None:
            _fit(found, profile, latency_model, rounds, threads, reporter, as_json)
            return
        candidates = list_candidates(found, engines, profile)
        workload = Workload(side, file, frame)
        recording = Recording.of(record, found, profile) if record else None
        bench = run_bench(candidates, profile, workload, rounds=rounds, threads=threads, report=reporter)
        recorded = recording.keep(bench, threads) if recording else []
    if plot is not None:
        _draw(bench, plot)
    if as_json:
        print_json(bench.to_json())
    else:
        _print(bench)
        for place in recorded:
            print_text(f"Recorded in {place}.")


def _fit(
    artifacts: Mapping[str, Artifact],
    profile: DeviceProfile,
    path: Path,
    rounds: int,
    threads: int,
    reporter: Reporter,
    as_json: bool,
) -> None:
    from zoo.benchmarking.latency_measurement import measure_latency_model

    model = measure_latency_model(
        artifacts.values(), profile, rounds=rounds, threads=threads, report=reporter
    )
    model.save(path)
    if as_json:
        print_json(
            {
                "file": path,
                "machine": model.machine,
                "median_error": model.error,
                "worst_error": model.worst_error,
            }
        )
        return
    print_text(
        f"Wrote {path}: {len(model.rates)} kinds of operators, of {len(model.errors)} networks.",
        f"Networks left out of the fit were missed by {model.error:.0%} (median), at most {model.worst_error:.0%}.",
        f"Use it:  zoo search NETWORK --device {model.device} --latency 20ms --latency-model {path}",
    )


def _draw(bench: BenchReport, path: Path) -> None:
    """Raises UsageError if the work of no artifact could be counted."""
    from zoo.benchmarking.roofline import RooflinePoint, draw_roofline
    from zoo.errors import UsageError
    from zoo.extras import install_hint

    points = [
        RooflinePoint(result.candidate.name, result.counts.intensity, result.gmacs_per_s)
        for result in bench.results
        if result.counts and result.gmacs_per_s
    ]
    if not points:
        raise UsageError(
            "Bytes moved are counted by ONNX Runtime, which is not installed.", hint=install_hint("cpu")
        )
    peaks: dict[str, float] = {name: max(rates.values()) for name, rates in bench.peaks.items() if rates}
    draw_roofline(points, peaks, bench.bandwidth, path)


def _print(bench: BenchReport) -> None:
    several = len(bench.results) > 1
    columns = [
        "artifact",
        "input",
        "median ms",
        "quartiles",
        "p95",
        "load ms",
        "first ms",
        "peak MB",
        "of peak",
    ]
    columns += ["J per run"] if any(result.joules is not None for result in bench.results) else []
    columns += ["times as fast as the first"] if several else []
    print_table(columns, [_row(result, columns) for result in bench.results], right=columns[2:])
    steps = list(dict.fromkeys(step for result in bench.results for step in result.steps.milliseconds))
    head = ["zoo run", *(f"{step} ms" for step in steps), "not inference"]
    rows = [
        [
            result.candidate.name,
            *(f"{taken[step]:.1f}" if step in taken else "" for step in steps),
            f"{result.steps.beside_inference:.0%}",
        ]
        for result in bench.results
        for taken in (result.steps.milliseconds,)
        if taken
    ]
    if rows:
        print_text("")
        print_table(head, rows, right=head[1:])
    for result in bench.results:
        if result.steps.problem:
            print_text(
                "",
                f"{result.candidate.name}: zoo run was not timed: {result.steps.problem}",
                "Try a smaller --frame.",
            )
    rates = "; ".join(
        f"{arithmetic} " + ", ".join(f"{value:,.0f} ({engine})" for engine, value in by_engine.items())
        for arithmetic, by_engine in bench.peaks.items()
    )
    print_text("", f"steps: of {bench.file}; peak, GMAC/s: {rates}; memory: {bench.bandwidth:.1f} GB/s")
    if all(result.joules is None for result in bench.results):
        print_text(f"energy: {bench.sensor}")
    if any(result.counts is None for result in bench.results):
        print_text("multiply-accumulates are counted by ONNX Runtime, which is not installed")
    if not several:
        print_text("A single artifact is not a comparison: name another, or --vs ARTIFACT, for a ratio.")


def _row(result: BenchResult, columns: list[str]) -> list[str]:
    latency, start = result.latency, result.start
    times, low, high = result.ratio
    cells = {
        "artifact": result.candidate.name,
        "input": "x".join(map(str, result.shape)),
        "median ms": f"{latency.median:.1f}",
        "quartiles": f"{latency.low:.1f}-{latency.high:.1f}",
        "p95": f"{latency.percentile(95):.1f}",
        "load ms": f"{start.load_ms:.0f}",
        "first ms": f"{start.first_ms:.0f}",
        "peak MB": f"{start.peak_rss_mb:.0f}",
        "of peak": "" if result.share_of_peak is None else f"{result.share_of_peak:.0%}",
        "J per run": "" if result.joules is None else f"{result.joules:.2f}",
        "times as fast as the first": f"{1 / times:.2f} ({1 / high:.2f}-{1 / low:.2f})",
    }
    return [cells[column] for column in columns]
