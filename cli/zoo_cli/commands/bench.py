"""``zoo bench``: how fast artifacts are, against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout
from zoo_cli.progress import progress

if TYPE_CHECKING:
    from zoo.bench.bench import Bench, Result


@click.command()
@click.argument("artifacts", nargs=-1, required=True, metavar="ARTIFACT...")
@click.option("--vs", metavar="ARTIFACT", help="What the others are held against [the first].")
@click.option("--engine", "engines", multiple=True, metavar="ID", help="Engine; may be given several times.")
@click.option("--device", default="host", show_default=True, metavar="ID", help="Device profile.")
@click.option(
    "--side", default=0, type=click.IntRange(min=0), help="Side of the input tensor [the example's]."
)
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(3, 10_000), help="Timed rounds.")
@click.option("--threads", default=0, type=click.IntRange(min=0), help="Threads of an engine [the device's].")
@json_option
def command(
    artifacts: tuple[str, ...],
    vs: str | None,
    engines: tuple[str, ...],
    device: str,
    side: int,
    rounds: int,
    threads: int,
    as_json: bool,
) -> None:
    """Time artifacts in turns, after a warm-up, and compare them by the ratio of medians.

    Loading, the first run and the peak memory are measured in a process of their own. A single artifact has nothing
    to be compared with; its times say something about this machine at this moment.
    """
    from zoo import plugins
    from zoo.bench.bench import contenders_of, open_all, run_bench
    from zoo.locate import locate_artifact

    names = ((vs,) if vs else ()) + tuple(name for name in artifacts if name != vs)
    with quiet_stdout(as_json), progress() as reporter:
        profile = plugins.device(device)
        found = open_all(names, locate_artifact)
        contenders = contenders_of(found, engines, profile)
        bench = run_bench(contenders, profile, side=side, rounds=rounds, threads=threads, report=reporter)
    if as_json:
        print_json(bench.to_json())
    else:
        _print(bench)


def _print(bench: Bench) -> None:
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
    several = len(bench.results) > 1
    if several:
        columns.append("times as fast as the first")
    rows = [_row(result, several) for result in bench.results]
    print_table(columns, rows, right=columns[2:])
    peaks = ", ".join(f"{name} {value:,.0f}" for name, value in bench.peaks.items())
    energy = bench.energy
    joules = (
        f"{energy.joules:.1f} J over all rounds ({energy.sensor})"
        if energy.joules is not None
        else energy.sensor
    )
    print_text("", f"peak, GMAC/s of a matrix product: {peaks}; energy: {joules}")
    if not several:
        print_text("One artifact alone is no comparison: name another, or --vs ARTIFACT, for a ratio.")


def _row(result: Result, several: bool) -> list[str]:
    latency, start = result.latency, result.start
    row = [
        result.contender.name,
        "x".join(map(str, result.shape)),
        f"{latency.median:.1f}",
        f"{latency.low:.1f}-{latency.high:.1f}",
        f"{latency.percentile(95):.1f}",
        f"{start.load_ms:.0f}",
        f"{start.first_ms:.0f}",
        f"{start.peak_rss_mb:.0f}",
        "" if result.share_of_peak is None else f"{result.share_of_peak:.0%}",
    ]
    times, low, high = result.ratio
    return [*row, f"{1 / times:.2f} ({1 / high:.2f}-{1 / low:.2f})"] if several else row
