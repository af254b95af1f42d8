"""`zoo apply`: compress a network with a recipe; `zoo train`: train one as it is."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from zoo.errors import UsageError
from zoo.formatting import seconds
from zoo.pipeline.api import apply_request
from zoo.pipeline.request import DEFAULT_MINUTES, PRECISIONS, ApplyRequest, make_request
from zoo.progress import progress
from zoo.recipes import recipe_toml
from zoo.recipes.grammar import parse
from zoo_cli.data_options import data_options, resolve_skip_bad
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout

if TYPE_CHECKING:
    from zoo.pipeline.result import Result
    from zoo.recipes.grammar import Recipe
    from zoo.recipes.recipe_toml import RecipeFile

#: Layers that are printed; all are in metrics.json.
_SHOWN_LAYERS = 8


def training_options(command: Any) -> Any:
    """Add the options that `apply` and `train` share."""
    options: list[Any] = [
        click.option("--out", type=click.Path(path_type=Path), help="Artifact folder [out/ARCHITECTURE-RECIPE]."),
        click.option(
            "--minutes",
            type=float,
            help="Limit of the training time, all stages together; exporting and measuring come on top "
            f"[{DEFAULT_MINUTES:g}].",
        ),
        click.option("--steps", multiple=True, type=int, help="Steps instead of minutes; once, or once per stage."),
        click.option("--input", default="", help="Input of a network of your own, as in rgb:3x256x256."),
        click.option("--output", default="", help="Its output, as in mask:1, logits:10, rgb:3x2."),
        data_options,
        click.option(
            "--weights", default="auto", metavar="NAME",
            help="File of weights (.safetensors, .pth, ...), checkpoint id, artifact folder, 'auto' or 'none' [auto].",
        ),
        click.option("--weights-key", default="", help="Which weights in the file, as in ema [those that fit]."),
        click.option("--partial", is_flag=True, help="Accept a file that lacks weights, or holds others."),
        click.option(
            "--batch", default=ApplyRequest.batch, type=click.IntRange(1), show_default=True, help="Crops per step."
        ),
        click.option("--crop", default=0, type=click.IntRange(0), help="Side of the crops in input pixels."),
        click.option("--learning-rate", type=float, help="Learning rate of Adam [4e-4; 1e-4 from trained weights]."),
        click.option(
            "--precision", default="auto", type=click.Choice(PRECISIONS),
            help="Precision of training.",
        ),
        click.option(
            "--seed", default=0, type=click.IntRange(0), show_default=True,
            help="Seed of every random choice.",
        ),
        click.option(
            "--max-loss", default="auto", metavar="LOSS",
            help="Largest loss per stage: 1pt, 0.3dB, a number, or none [by the task].",
        ),
        click.option("--images", type=click.IntRange(1), help="Evaluate on only this many test images."),
        click.option(
            "--threads", default=0, type=click.IntRange(0),
            help="Threads of the engine [all this process may use].",
        ),
        click.option(
            "--accept-disagreement", is_flag=True,
            help="Write the artifact although it computes something else than the network.",
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
@click.option("--trust-code", is_flag=True, help="Execute Python files that the recipe file names.")
@click.option(
    "--device", default="", metavar="ID", help="Profile of the target board; adapts the recipe, and warns."
)
@click.option(
    "--keep-stages",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Keep trained stages in this folder, and start from those kept there.",
)
@training_options
@click.pass_context
def command(
    context: click.Context,
    /,
    recipe: str | None,
    architecture: str | None,
    recipe_file: Path | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Apply RECIPE (such as depthwise+qat) to ARCHITECTURE (such as unet).

    If it is interrupted or killed, the same command resumes it.
    """
    if recipe_file is not None:
        # with a file the only argument left is the architecture, which the file may name itself
        run(recipe_toml.read(recipe_file), architecture or recipe, context, as_json)
        return
    if recipe is None or architecture is None:
        raise UsageError(
            "A recipe and an architecture are required.", hint="For example:  zoo apply depthwise+qat unet"
        )
    run(parse(recipe), architecture, context, as_json)


def run(
    recipe: Recipe | RecipeFile | None, architecture: str | None, context: click.Context, as_json: bool
) -> None:
    """Apply a recipe with the options of a command line, and show the result."""
    request = make_request(
        recipe, architecture, command=shlex.join(["zoo", *sys.argv[1:]]), **_stated(context)
    )
    with quiet_stdout(as_json), progress() as reporter:
        try:
            result = apply_request(request, reporter)
        except KeyboardInterrupt:
            reporter.finish()
            reporter.note("The training so far is kept; the same command resumes it.")
            raise
    if result is None:
        return
    if as_json:
        print_json(result.to_json())
    else:
        show(result)


def _stated(context: click.Context) -> dict[str, Any]:
    """Return the options of a request that were typed, and none that only have their default."""
    stated = {
        name: value
        for name, value in context.params.items()
        if name not in ("recipe", "architecture", "recipe_file", "as_json")
        and context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    return resolve_skip_bad(stated)


def show(result: Result) -> None:
    """Print the table of before and after."""
    columns, rows = result.table_cells()
    print_table(columns, rows, title=result.table_title, right=columns[1:])
    for layer in result.left_alone[:_SHOWN_LAYERS]:
        print_text(f"{layer['technique']} left {layer['layer']} alone: {layer['reason']}")
    if len(result.left_alone) > _SHOWN_LAYERS:
        print_text(f"... and {len(result.left_alone) - _SHOWN_LAYERS} more layers; metrics.json lists all.")
    print_text(f"Wrote {result.artifact} in {seconds(result.seconds)}.")
    print_text(f"Try it:  {_next_command(result)}")


def _next_command(result: Result) -> str:
    """Return how the artifact is run on a file of the user's."""
    from zoo.artifacts.artifact import open_artifact

    manifest = open_artifact(result.artifact).manifest
    file = {"packed-raw": "shot.ARW", "tensor": "inputs.npz"}.get(manifest.input.kind, "picture.jpg")
    folder = {"rgb": " -o pictures", "gray": " -o pictures", "mask": " -o masks"}.get(
        manifest.output.kind, ""
    )
    return f"zoo run {shlex.quote(str(result.artifact))} {file}{folder}"
