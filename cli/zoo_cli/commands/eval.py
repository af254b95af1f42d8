"""`zoo eval`: measure an artifact on a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from zoo.extras import require
from zoo.progress import progress
from zoo_cli.data_options import data_options, resolve_skip_bad
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout

if TYPE_CHECKING:
    from zoo.contracts import Metric
    from zoo.evaluation.evaluator import Evaluation

#: Images whose scores are printed one by one; `--json` has all of them.
_MOST_ROWS = 100


@click.command(short_help="Measure the quality of an artifact on a dataset.")
@click.argument("artifact")
@click.option("--input", "takes", default="", help="Input of an ONNX file, as in rgb:3x224x224.")
@click.option("--output", "gives", default="", help="Its output, as in mask:1, logits:10.")
@data_options
@click.option(
    "--split", default="test", type=click.Choice(["train", "val", "test", "all"]), show_default=True,
    help="Which images; 'all' includes training images, which flatters.",
)  # fmt: skip
@click.option("--against", help="The artifact or checkpoint to compare with, for data without labels.")
@click.option("--images", type=click.IntRange(1), help="Use only this many images.")
@click.option("--engine", default="onnxruntime", show_default=True, help="Engine that executes the file.")
@click.option(
    "--threads", default=0, type=click.IntRange(0), help="Threads of the engine [all this process may use]."
)
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True, help="Seed of simulated noise.")
@json_option
def command(artifact: str, takes: str, gives: str, as_json: bool, **options: Any) -> None:
    """Measure the quality of ARTIFACT, a folder or the id of a checkpoint, as the engine runs it."""
    require("skimage", "Measuring quality")
    from zoo.architectures.own_networks import with_specs_of_files
    from zoo.evaluation.evaluator import evaluate_artifact

    names = [artifact, options["against"] or ""]
    artifact, options["against"] = with_specs_of_files(names, takes, gives)
    options["against"] = options["against"] or None
    with quiet_stdout(as_json), progress() as reporter:
        result = evaluate_artifact(artifact, reporter=reporter, **resolve_skip_bad(options))
    if as_json:
        print_json(result.to_json())
    else:
        show(result)


def show(result: Evaluation) -> None:
    """Print one row per image, and what they score together."""
    from zoo.tasks.built_in_metrics import METRICS

    quality = result.quality
    columns = [
        metric for metric in quality.metrics if any(metric.key in each.values for each in quality.scores)
    ]
    if columns and len(quality.scores) <= _MOST_ROWS:
        rows = [
            [score.name, *(_shown(metric, score.values) for metric in columns)] for score in quality.scores
        ]
        rows.append(["all", *(_shown(metric, quality.values) for metric in columns)])
        print_table(["image", *(metric.name for metric in columns)], rows, right=[m.name for m in columns])
    against = "" if quality.labelled else ", compared with the original network"
    print_text(f"{quality.images:,} images of {quality.dataset}/{quality.split}{against}:")
    for metric in quality.metrics:
        if metric.shown:
            print_text(f"  {metric.name}: {quality.show(metric)}")
    for output, values in quality.extras.items():
        for key, value in values.items():
            if METRICS[key].shown:
                print_text(f"  {output}, {METRICS[key].name}: {METRICS[key].show(value)}")
    if result.seen:
        print_text(
            f"Warning: {len(result.seen)} of these scenes were used for training, which flatters: "
            f"{', '.join(result.seen[:5])}"
        )


def _shown(metric: Metric, values: Mapping[str, float]) -> str:
    return metric.show(values[metric.key]) if metric.key in values else ""
