"""`zoo eval`: measure an artifact on a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.extras import require
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout
from zoo_cli.progress import progress

if TYPE_CHECKING:
    from zoo.evaluation.evaluator import Evaluation


@click.command(short_help="Measure the quality of an artifact on a dataset.")
@click.argument("artifact")
@click.option("--data", default="", help="Dataset with options, as in 'sid(root=DIR)' [by the task].")
@click.option(
    "--photos", multiple=True, type=click.Path(path_type=Path), help="Folder of photographs to add."
)
@click.option(
    "--split", default="test", type=click.Choice(["train", "val", "test", "all"]), show_default=True,
    help="Which images; 'all' includes training images, which flatters.",
)  # fmt: skip
@click.option("--against", help="For classifiers: the artifact or checkpoint to compare with.")
@click.option("--images", type=click.IntRange(1), help="Use only this many images.")
@click.option("--engine", default="onnxruntime", show_default=True, help="Engine that executes the file.")
@click.option(
    "--threads", default=0, type=click.IntRange(0), help="Threads of the engine [all this process may use]."
)
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True, help="Seed of simulated noise.")
@json_option
def command(artifact: str, as_json: bool, **options: Any) -> None:
    """Measure the quality of ARTIFACT, a folder or the id of a checkpoint, as the engine runs it."""
    require("skimage", "Measuring quality")
    from zoo.evaluation.evaluator import evaluate_artifact

    with quiet_stdout(as_json), progress() as reporter:
        result = evaluate_artifact(artifact, reporter=reporter, **options)
    if as_json:
        print_json(result.to_json())
    else:
        show(result)


def show(result: Evaluation) -> None:
    """Print one row per image, and the mean."""
    from zoo.evaluation.quality import Quality

    quality = result.quality
    if isinstance(quality, Quality):
        columns = [metric.name for metric in quality.metrics]
        rows = [
            [score.name, *(metric.show(score.values[metric.key]) for metric in quality.metrics)]
            for score in quality.scores
        ]
        rows.append(["mean", *(metric.show(quality.mean(metric.key)) for metric in quality.metrics)])
        print_table(["image", *columns], rows, right=columns)
    else:
        print_text(
            f"same top-1 class: {quality.top1:.1%} of {quality.images} images; "
            f"logits agree to {quality.logits_db:.1f} dB"
        )
    if result.seen:
        print_text(
            f"Warning: {len(result.seen)} of these scenes were used for training, which flatters: "
            f"{', '.join(result.seen[:5])}"
        )
