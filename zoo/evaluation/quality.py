"""Quality of what an exported file gives, one image after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, ZooError
from zoo.evaluation.metrics import METRICS_BY_TASK, Metric
from zoo.images.decibels import PSNR_CEILING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import Architecture, Dataset, Reporter, Sample, Split

    FloatArray = npt.NDArray[np.float32]
    #: (C, h, w) of any size to the network's output for it: (channels, H, W), or (classes,)
    Predict = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Score:
    """What one image scored: a value for each metric, by its key."""

    name: str
    scene: str
    values: Mapping[str, float]


@dataclass
class Quality:
    """Scores of the images of a split, and their means.

    Attributes:
        metrics: What they were scored by, the most important first.
    """

    dataset: str
    split: str
    seed: int
    metrics: tuple[Metric, ...]
    scores: list[Score] = field(default_factory=list)

    def mean(self, key: str) -> float:
        """Return the mean of a metric over the images."""
        return math.fsum(score.values[key] for score in self.scores) / len(self.scores)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for metrics.json and `--json`."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "seed": self.seed,
            "images": len(self.scores),
            **{metric.key: _short(self.mean(metric.key)) for metric in self.metrics},
            "per_image": [
                {"name": score.name, **{key: _short(value) for key, value in score.values.items()}}
                for score in self.scores
            ],
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
    seed: int = 0,
    limit: int | None = None,
) -> Quality:
    """Score the pictures or masks that `predict` makes of a split. Memory does not grow with their number."""
    metric_set = METRICS_BY_TASK[architecture.output.kind]
    quality = Quality(dataset.id, split, seed, metric_set.metrics)
    images = len(dataset.scenes(split))
    if not images:
        raise _empty(dataset, split)
    foremost, total = metric_set.metrics[0], 0.0
    reporter.start(f"evaluate on {dataset.id}/{split}", min(images, limit or images), "images")
    for sample in islice(dataset.frames(architecture, split, seed), limit):
        if sample.target is None:
            raise ZooError(f"{sample.name} has no target to compare with.")
        height, width = sample.target.shape[1:]
        values = metric_set.compare(predict(sample.inputs)[:, :height, :width], sample.target)
        quality.scores.append(Score(sample.name, sample.scene, values))
        total += values[foremost.key]
        reporter.advance(1, **{f"mean {foremost.name}": total / len(quality.scores)})
    reporter.finish()
    return quality


def _empty(dataset: Dataset, split: Split) -> InputError:
    return InputError(
        f"{dataset.id} has no images in its {split} split.",
        hint="Add some (darkroom, photos: --photos DIR), or choose another split with --split.",
    )


@dataclass(frozen=True)
class Agreement:
    """How far a classifier agrees with another: share of equal top-1 classes, and signal-to-error ratio in dB."""

    dataset: str
    split: str
    images: int
    top1: float
    logits_db: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for metrics.json and `--json`."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "images": self.images,
            "top1_agreement": round(self.top1, 5),
            "logits_sqnr_db": round(self.logits_db, 4),
        }


def evaluate_agreement(
    predict: Predict,
    reference: Predict,
    dataset: Dataset,
    architecture: Architecture,
    *,
    split: Split,
    reporter: Reporter,
    seed: int = 0,
    limit: int | None = None,
) -> Agreement:
    """Compare a classifier with the one it was made from, on unlabelled pictures."""
    import numpy as np

    frames: Iterator[Sample] = islice(dataset.frames(architecture, split, seed), limit)
    images = same = 0
    signal = error = 0.0
    reporter.start(f"compare on {dataset.id}/{split}", None, "images")
    for sample in frames:
        ours, theirs = predict(sample.inputs), reference(sample.inputs)
        same += int(np.argmax(ours) == np.argmax(theirs))
        signal += float(np.sum(np.square(theirs, dtype=np.float64)))
        error += float(np.sum(np.square(ours - theirs, dtype=np.float64)))
        images += 1
        reporter.advance(1)
    reporter.finish()
    if not images:
        raise _empty(dataset, split)
    ratio = PSNR_CEILING if error == 0 else min(PSNR_CEILING, 10 * math.log10(max(signal, 1e-30) / error))
    return Agreement(dataset.id, split, images, same / images, ratio)
