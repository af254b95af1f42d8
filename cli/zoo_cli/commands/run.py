"""`zoo run`: turn RAW files into images with an artifact."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.errors import ZooError
from zoo.formatting import seconds
from zoo.progress import progress
from zoo.progress.lines import NoteReporter
from zoo_cli.output import json_option, print_json, print_note, print_table, print_text, quiet_stdout
from zoo_cli.param_types import Amplification, MemorySize, Milliseconds

if TYPE_CHECKING:
    from zoo.runner.file_result import FileResult
    from zoo.runner.runner import Runner


@click.command(short_help="Turn files into images with an artifact; needs no torch.")
@click.argument("artifact")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--input", "named", multiple=True, metavar="NAME=VALUE",
    help="One of several inputs: a file, or numbers separated by commas; repeatable.",
)  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for what is written.")
@click.option(
    "--ratio",
    type=Amplification(),
    metavar="auto|N",
    default="auto",
    show_default=True,
    help="Factor by which the file is underexposed; 'auto' estimates it.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["png", "tiff"]),
    default="png",
    show_default=True,
    help="8-bit PNG or 16-bit TIFF.",
)
@click.option("--engine", help="Engine that executes the network [the device's first].")
@click.option(
    "--threads", default=0, type=click.IntRange(0), help="Threads of the engine [all this process may use]."
)
@click.option(
    "--device", default="host", show_default=True, help="Device profile, for its engines and memory."
)
@click.option(
    "--tile", type=click.IntRange(16), help="Side of a tile in network pixels, border included [by memory]."
)
@click.option(
    "--memory",
    type=MemorySize(),
    metavar="SIZE",
    help="Limit on memory, as in 512MB [384MiB, less on a smaller machine].",
)
@click.option("--overwrite", is_flag=True, help="Replace existing images.")
@click.option("--resume", is_flag=True, help="Skip existing images, and make the others.")
@click.option(
    "--isolate/--no-isolate",
    default=None,
    help="Compute in a process of its own [unless a registry pins the artifact].",
)
@click.option(
    "--confidence", type=click.FloatRange(0.5, 1.0),
    help="Early exits: leave where the best class is more probable than this [as the file says].",
)  # fmt: skip
@click.option("--deadline", type=Milliseconds(), help="Early exits: time that an image may take, as in 30ms.")
@json_option
def command(
    artifact: str,
    files: tuple[Path, ...],
    named: tuple[str, ...],
    out: Path | None,
    ratio: float | None,
    format_: Any,
    engine: str | None,
    threads: int,
    device: str,
    tile: int | None,
    memory: int | None,
    overwrite: bool,
    resume: bool,
    isolate: bool | None,
    confidence: float | None,
    deadline: float | None,
    as_json: bool,
) -> None:
    """Run ARTIFACT, a folder or the id of a checkpoint, on FILES.

    FILES are files, folders of them, or - for standard input: RAW files, or JPEG, PNG, WebP and TIFF images, as the
    network expects; for networks with several inputs, or inputs that are not images, .npz files with an array for
    each. Inputs that the files do not hold are named with --input; none are needed where all are.

    Networks whose output is an image or a mask write one for each file to the folder given by -o; classifiers print
    the five highest classes, detectors their boxes, others what their task shows, and with -o they write a picture of
    it. A file that cannot be used is reported, and the others are processed.
    """
    from zoo.errors import UsageError
    from zoo.runner.exit_limits import ExitLimits
    from zoo.runner.input_files import STDIN, call_by_its_name, input_files
    from zoo.runner.runner import open_runner
    from zoo.runner.settings import Settings

    # numpy's threads for linear algebra, of which there is none here: starting them takes a tenth of a small run.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if overwrite and resume:
        raise UsageError(
            "--overwrite and --resume cannot be combined: one replaces the images that the other skips.",
            hint="Use one of them.",
        )
    if not (files or named):
        raise UsageError("Nothing to run on.", hint=f"Name files:  zoo run {artifact} FILES")
    if out == STDIN:
        raise UsageError("Images are written to a folder, not to standard output.", hint="Name one:  -o DIR")
    limits = ExitLimits(confidence, deadline)
    inputs: Mapping[str, str] = {}
    if named:
        from zoo.runner.named_inputs import parse_named

        inputs = parse_named(named)
    settings = Settings(out, format_, ratio, tile, overwrite, resume, memory, isolate, limits, inputs)
    with (
        quiet_stdout(as_json),
        input_files(files) as paths,
        # before a bar has a thread: a process without others can be copied for the children
        open_runner(
            artifact, device, settings, engine=engine, threads=threads, files=paths, reporter=NoteReporter()
        ) as runner,
        progress(quiet=len(paths) <= 1) as reporter,
    ):
        for refused in runner.loaded.refused:
            print_note(str(refused))
        if runner.loaded.exits:
            print_note(runner.loaded.exits)
        results = runner.run(paths, reporter=reporter)
    for result in results:
        call_by_its_name(result)
    _show(artifact, runner, results, as_json)
    _fail_if_any_failed(results)


def _show(name: str, runner: Runner, results: Sequence[FileResult], as_json: bool) -> None:
    from zoo.machine.memory import peak_rss_mb

    loaded, loading = runner.loaded, runner.load_seconds
    peak = peak_rss_mb() + loaded.session.peak_bytes / 2**20
    if as_json:
        assert runner.settings.memory is not None
        print_json(
            {
                "artifact": name,
                "fingerprint": loaded.artifact.manifest.fingerprint,
                "engine": loaded.engine,
                "engine_version": loaded.engine_version,
                "engines_refused": [refused.to_json() for refused in loaded.refused],
                "golden_psnr_db": loaded.golden_psnr,
                "early_exits": loaded.exits or None,
                "load_ms": round(loading * 1000, 3),
                "files": [result.to_json() for result in results],
                "failed": sum(result.error is not None for result in results),
                "peak_rss_mb": round(peak, 1),
                "memory_mb": round(runner.settings.memory / 2**20, 1),
            }
        )
        return
    done = [result for result in results if result.error is None and not result.skipped]
    if done and done[0].findings is not None:
        for result in done:
            _print_findings(result)
    elif done:
        _print_pictures(done)
    else:
        return
    print_text(
        f"{loaded.engine} {loaded.engine_version}, loaded in {seconds(loading)}; peak memory {peak:.0f} MB"
    )


def _print_findings(result: FileResult) -> None:
    """Print what a file shows, a line each, and where the picture of it is."""
    print_text(f"{result.path}:" + ("" if result.findings else " nothing found"))
    for row in result.findings or ():
        print_text(f"  {_finding(row)}")
    for name, about in result.others.items():
        print_text(f"  output '{name}': {_finding(about)}")
    if result.output is not None:
        print_text(f"  wrote {result.output}")


def _finding(row: Mapping[str, Any]) -> str:
    """Return a row of what a task shows: "cat 93.1 %", "person 87.0 % at 12, 40 to 80, 200", "reading 3.2"."""
    rest = dict(row)
    words = [f"sample {rest.pop('sample')}:"] if "sample" in rest else []
    if "class" in rest:
        number, label = rest.pop("class"), rest.pop("label", "")
        words.append(f"{label} ({number})" if label else f"class {number}")
    for share in ("confidence", "share"):
        if share in rest:
            words.append(f"{100 * rest.pop(share):.1f} %")
    if "box" in rest:
        x0, y0, x1, y1 = rest.pop("box")
        words.append(f"at {x0:g}, {y0:g} to {x1:g}, {y1:g}")
    for key, value in rest.items():
        words.append(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    return "  ".join(words)


def _print_pictures(results: Sequence[FileResult]) -> None:
    steps = ("decode", "pack", "infer", "write")
    rows = [
        [
            str(result.output),
            "x".join(map(str, result.size or ())),
            "" if result.ratio is None else f"{result.ratio:.3g}",
            *(seconds(result.steps[step]) for step in steps),
            seconds(result.seconds),
        ]
        for result in results
    ]
    columns = ["image", "pixels", "ratio", *steps, "total"]
    print_table(columns, rows, right=columns[1:])
    if any(sum(result.steps.values()) > result.seconds for result in results):
        print_text("total is the time that passed: RAW files are decoded while other work is done")


def _fail_if_any_failed(results: Sequence[FileResult]) -> None:
    """Raise the error of a single file, or a summary of a batch with the exit code of its first failure."""
    failed = [result for result in results if result.error is not None]
    if not failed:
        return
    first = failed[0].error
    assert first is not None
    if len(results) == 1:
        raise first
    names = ", ".join(str(result.path) for result in failed[:5]) + (", ..." if len(failed) > 5 else "")
    summary = ZooError(f"{len(failed)} of {len(results)} files failed: {names}")
    summary.exit_code = first.exit_code
    raise summary
