"""Quality of what an exported file gives, one image after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from zoo import plugins
from zoo.artifacts.golden import MAIN_OUTPUT
from zoo.contracts import Metric
from zoo.errors import InputError, UsageError, ZooError
from zoo.evaluation.predict import wanted_picture
from zoo.tasks.agreement_scorers import agreement_scorer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import Architecture, Dataset, Reporter, Split
    from zoo.evaluation.predict import Predict, PredictExtras

    FloatArray = npt.NDArray[np.float32]

#: The images whose scores metrics.json lists one by one.
_MOST_LISTED = 500


@dataclass(frozen=True)
class Score:
    """What one image scored: a value for each metric that an image has by itself, by its key."""

    name: str
    scene: str
    values: Mapping[str, float]


@dataclass
class Quality:
    """What the images of a split scored.

    Attributes:
        labelled: Whether they were compared with labels; otherwise with the outputs of the original network.
        metrics: What they were scored by, the most important first.
        scores: Of each image.
        values: Over all images, by the key of the metric.
        intervals: The 95 % interval, for those values where it is known.
        extras: Of networks with several outputs: how far each of the others agrees with the original's, by the output's
            name and the key of the metric.
    """

    dataset: str
    split: str
    seed: int
    labelled: bool
    metrics: tuple[Metric, ...] = ()
    scores: list[Score] = field(default_factory=list)
    values: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    extras: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Return the number of images."""
        return len(self.scores)

    @property
    def limited(self) -> Metric | None:
        """Return the metric that `--max-loss` limits; None if there is none."""
        return next((each for each in self.metrics if each.limit is not None), None)

    def show(self, metric: Metric) -> str:
        """Return the value of a metric with its interval where it is known: "81.0 % (79.2 to 82.7 %)"."""
        shown = metric.show(self.values[metric.key])
        interval = self.intervals.get(metric.key)
        return shown if interval is None else f"{shown} ({metric.show_interval(interval)})"

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for metrics.json and `--json`."""
        few = self.images <= _MOST_LISTED and any(score.values for score in self.scores)
        return {
            "dataset": self.dataset,
            "split": self.split,
            "seed": self.seed,
            "images": self.images,
            "compared_with": "labels" if self.labelled else "the original network",
            **{key: _short(value) for key, value in self.values.items()},
            **(
                {"extra_outputs": {name: dict(each) for name, each in self.extras.items()}}
                if self.extras
                else {}
            ),
            **(
                {"intervals_95": {key: [*map(_short, each)] for key, each in self.intervals.items()}}
                if self.intervals
                else {}
            ),
            **(
                {
                    "per_image": [
                        {"name": score.name, **{key: _short(value) for key, value in score.values.items()}}
                        for score in self.scores
                    ]
                }
                if few
                else {}
            ),
        }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def evaluate_quality(
    predict: Predict,
    dataset: Dataset,
    architecture: Architecture,
    *,
    split: Split,
    reporter: Reporter,
    reference: Predict | None = None,
    extras: tuple[PredictExtras | None, PredictExtras | None] = (None, None),
    seed: int = 0,
    limit: int | None = None,
) -> Quality:
    """Score what `predict` makes of a split: by the measures of the task, or without labels against `reference`.

    Memory does not grow with the number of images, except for their scores.

    Args:
        predict: The network.
        dataset: Where the images come from.
        architecture: Its output and its task.
        split: Which images.
        reporter: Shows progress.
        reference: The original network; None if it is not known.
        extras: What computes the other outputs, of this network and of the original; None where there are none.
        seed: Of the images, where they are simulated.
        limit: At most this many images.

    Raises:
        InputError: The split is empty.
        UsageError: There are neither labels nor an original.
        ZooError: Only some images have labels.
    """
    images = len(dataset.scenes(split))
    frames = islice(dataset.frames(architecture, split, seed), limit)
    first = next(frames, None) if images else None
    if first is None:
        raise empty_split(dataset, split)
    stated = plugins.task_of(architecture)
    labelled = first.target is not None and stated.labelled
    if not labelled and reference is None:
        raise UsageError(
            f"The images of {dataset.id} have no labels to compare the output with.",
            hint=f"{stated.data_hint}; or name the artifact to compare it with:  zoo eval ... --against ARTIFACT",
        )
    task = stated if labelled else plugins.task("any")
    scorer = task.scorer(architecture.output)
    quality = Quality(dataset.id, split, seed, labelled)
    total = 0.0
    # What a program passes is one scene, however many images it has.
    total_images = (min(images, limit or images) if images > 1 else limit) if labelled else None
    reporter.start(f"evaluate on {dataset.id}/{split}", total_images, "images")
    others = {name: agreement_scorer(spec) for name, spec in architecture.extra_outputs.items()}
    ours, theirs = extras
    for sample in chain([first], frames):
        prediction = predict(sample.inputs, sample.to_srgb)
        target = sample.target if labelled else None
        if (sample.target is None) != (first.target is None):
            raise ZooError(f"{sample.name} has {'no' if labelled else 'a'} target, unlike {first.name}.")
        if target is None:
            assert reference is not None
            target = reference(sample.inputs, sample.to_srgb)
        elif architecture.output.dense:
            height, width = target.shape[-2:]
            prediction = prediction[:, :height, :width]
            target = wanted_picture(target, sample.to_srgb)
        found = {} if ours is None else ours(sample.inputs)
        if found and theirs is not None:
            wanted = theirs(sample.inputs)
            for name, other in others.items():
                other.add(found[name], wanted[name])
        whole: Any = {MAIN_OUTPUT: prediction, **found} if task.whole_output else prediction
        values = scorer.add(whole, target)
        quality.scores.append(Score(sample.name, sample.scene, values))
        shown = next((each for each in task.measures if each.key in values), None)
        if shown is not None:
            total += values[shown.key]
            reporter.advance(1, **{f"mean {shown.name}": total / quality.images})
        else:
            reporter.advance(1)
    reporter.finish()
    quality.values, quality.intervals = scorer.result(), scorer.intervals()
    if ours is not None and theirs is not None:
        quality.extras = {name: dict(other.result()) for name, other in others.items()}
    quality.metrics = tuple(metric for metric in task.measures if metric.key in quality.values)
    return quality


def empty_split(dataset: Dataset, split: Split) -> InputError:
    """Return the error that says that a dataset has nothing to measure on."""
    return InputError(
        f"{dataset.id} has no images in its {split} split.",
        hint="Add images or hold more of them out (darkroom, photos: --photos DIR; others: test_share), or choose "
        "another split:  zoo eval ... --split",
    )
