"""`zoo apply`: compress a network with a recipe; `zoo train`: train one as it is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.errors import UsageError
from zoo.extras import require
from zoo.formatting import integer, scaled, seconds
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout
from zoo_cli.progress import progress

if TYPE_CHECKING:
    from zoo.pipeline.pipeline import Outcome
    from zoo.pipeline.request import Request
    from zoo.recipes.grammar import Recipe

_DEFAULT_MINUTES = 10.0


def training_options(command: Any) -> Any:
    """Add the options that `apply` and `train` share."""
    options = [
        click.option("--out", type=click.Path(path_type=Path), help="Artifact folder [out/ARCHITECTURE-RECIPE]."),
        click.option("--minutes", type=float, help=f"Training time of all stages together [{_DEFAULT_MINUTES:g}]."),
        click.option("--steps", multiple=True, type=int, help="Steps instead of minutes; once, or once per stage."),
        click.option("--input", default="", help="Input of a network of your own, as in rgb:3x256x256."),
        click.option("--output", default="", help="Its output, as in mask:1, logits:10, rgb:3x2."),
        click.option("--data", default="", help="Dataset with options, as in 'sid(root=DIR)' [by the task]."),
        click.option(
            "--photos", multiple=True, type=click.Path(path_type=Path), help="Photographs to add; repeatable."
        ),
        click.option("--weights", default="auto", help="Checkpoint id, artifact folder, 'auto' or 'none' [auto]."),
        click.option("--batch", default=4, type=click.IntRange(1), show_default=True, help="Crops per step."),
        click.option("--crop", default=0, type=click.IntRange(0), help="Side of the crops in input pixels."),
        click.option("--learning-rate", type=float, help="Learning rate of Adam [4e-4; 1e-4 from trained weights]."),
        click.option(
            "--precision", default="auto", type=click.Choice(["auto", "float32", "bfloat16"]),
            help="Precision of training.",
        ),
        click.option(
            "--seed", default=0, type=click.IntRange(0), show_default=True,
            help="Seed of every random choice.",
        ),
        click.option(
            "--max-loss", default=3.0, type=float, show_default=True,
            help="Largest loss per stage, in dB (or points).",
        ),
        click.option("--images", type=click.IntRange(1), help="Evaluate on only this many test images."),
        click.option(
            "--threads", default=0, type=click.IntRange(0),
            help="Threads of the engine [all this process may use].",
        ),
        click.option("--half-weights", is_flag=True, help="Store float weights of model.onnx in 16 bits."),
        click.option("--runner-only", is_flag=True, help="Leave model.safetensors out of the artifact."),
    ]  # fmt: skip
    for option in reversed([*options, json_option]):
        command = option(command)
    return command


@click.command(short_help="Compress a network with a recipe, train, export and measure it.")
@click.argument("recipe", required=False)
@click.argument("architecture", required=False)
@click.option(
    "--recipe", "recipe_file", type=click.Path(path_type=Path), help="Recipe file to use instead of RECIPE."
)
@click.option(
    "--device", default="", metavar="ID", help="Profile of the target board; adapts the recipe, and warns."
)
@training_options
def command(
    recipe: str | None, architecture: str | None, recipe_file: Path | None, as_json: bool, **options: Any
) -> None:
    """Apply RECIPE (such as depthwise+qat) to ARCHITECTURE (such as unet).

    If it is interrupted or killed, the same command resumes it.
    """
    from zoo.recipes.grammar import parse

    if recipe_file is not None:
        from zoo.recipes import recipe_toml

        found = recipe_toml.read(recipe_file)
        # with a file the only argument left is the architecture, which the file may name itself
        name = architecture or recipe or found.architecture
        if name is None:
            raise UsageError(
                "The recipe file does not name an architecture.",
                hint="Name one: zoo apply --recipe FILE unet",
            )
        require_compress()
        from zoo.pipeline.recipe_file import with_file

        request = with_file(make_request(None, name, str(found.recipe), options), found)
        run(request, as_json)
        return
    if recipe is None or architecture is None:
        raise UsageError(
            "A recipe and an architecture are required.", hint="For example:  zoo apply depthwise+qat unet"
        )
    parsed = parse(recipe)
    check_legality(parsed)
    require_compress()
    run(make_request(parsed, architecture, recipe, options), as_json)


def check_legality(recipe: Recipe) -> None:
    """Refuse an illegal order before torch is even imported."""
    from zoo import plugins
    from zoo.recipes import legality

    legality.check([plugins.load("techniques", stage.technique) for stage in recipe], recipe)


def require_compress() -> None:
    """Raise MissingDependencyError, with the pip command, where training is not installed."""
    for module in ("torch", "onnx", "onnxscript", "skimage", "accelerate"):
        require(module, "Compressing a network")


def make_request(recipe: Any, architecture: str, title: str, options: dict[str, Any]) -> Request:
    """Return the request that command-line options describe."""
    from zoo.architectures.module_file import with_specs
    from zoo.pipeline.request import Request
    from zoo.training.schedule import Budget

    architecture = with_specs(architecture, options.pop("input"), options.pop("output"))
    minutes, steps = options.pop("minutes"), options.pop("steps")
    if minutes is not None and steps:
        raise UsageError("--minutes and --steps cannot be combined.")
    if steps:
        budgets = tuple(Budget(steps=count) for count in steps)
    else:
        budgets = (Budget(minutes=_DEFAULT_MINUTES if minutes is None else minutes),)
    out = options.pop("out") or Path("out", _file_name(f"{architecture}-{title}"))
    command_line = shlex.join(["zoo", *sys.argv[1:]])
    return Request(recipe, architecture, out, budgets, command=command_line, **options)


def _file_name(title: str) -> str:
    return "".join(c if c.isalnum() or c in "+-._" else "-" for c in title).strip("-.")[:80]


def run(request: Request, as_json: bool) -> None:
    """Run a request and show the result."""
    from zoo.pipeline.pipeline import apply

    with quiet_stdout(as_json), progress() as reporter:
        try:
            outcome = apply(request, reporter)
        except KeyboardInterrupt:
            reporter.finish()
            reporter.note("The training so far is kept; the same command resumes it.")
            raise
    if outcome is None:
        return
    if as_json:
        print_json(outcome.to_json())
    else:
        show(outcome)


def show(outcome: Outcome) -> None:
    """Print the table of before and after."""
    files = outcome.files
    names = ["before", *(file.stage for file in files[1:])]
    rows: list[list[str]] = [
        ["parameters", *(integer(f.parameters) for f in files)],
        ["multiply-accumulates", *(scaled(f.macs) for f in files)],
        ["model.onnx", *(scaled(f.file_bytes, "B") for f in files)],
    ]
    if all(f.latency for f in files):
        medians = [f.latency.median for f in files if f.latency]
        rows.append(["latency", *(seconds(m / 1000) for m in medians)])
        rows.append(["speed-up", *(f"{medians[0] / m:.2f}x" for m in medians)])
    rows += _quality_rows(outcome)
    print_table(["", *names], rows, title="Measured on the exported files in ONNX Runtime", right=names)
    for layer in outcome.left_alone[:8]:
        print_text(f"{layer['technique']} left {layer['layer']} alone: {layer['reason']}")
    if len(outcome.left_alone) > 8:
        print_text(f"... and {len(outcome.left_alone) - 8} more layers; metrics.json lists all.")
    print_text(f"Wrote {outcome.artifact} in {seconds(outcome.seconds)}.")
    if files[-1].psnr is not None:
        print_text(f"Try it:  zoo run {outcome.artifact} shot.ARW -o pictures")
    if files[-1].dice is not None:
        print_text(f"Try it:  zoo run {outcome.artifact} picture.png -o masks")


def _quality_rows(outcome: Outcome) -> list[list[str]]:
    qualities = [file.quality.to_json() if file.quality else {} for file in outcome.files]
    from zoo.evaluation.metrics import METRICS

    labels: dict[str, tuple[str, Callable[[float], str]]] = {
        **{key: (measure.name, measure.show) for key, measure in METRICS.items() if key != "mse"},
        "top1_agreement": ("same top-1 class", "{:.1%}".format),
        "logits_sqnr_db": ("logits, signal to error", "{:.1f} dB".format),
    }
    return [
        [label, *(show(quality[key]) if key in quality else "" for quality in qualities)]
        for key, (label, show) in labels.items()
        if any(key in quality for quality in qualities)
    ]
