"""Picture quality of an exported file, one image after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from zoo.decibels import PSNR_CEILING, psnr
from zoo.errors import InputError, ZooError
from zoo.optional import require

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import Architecture, Dataset, Reporter, Sample, Split

    FloatArray = npt.NDArray[np.float32]
    #: (C, h, w) of any size to the network's output for it: (3, H, W), or (classes,)
    Predict = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Score:
    """Scores of one image. psnr in dB; ssim and mse for values in [0, 1]."""

    name: str
    scene: str
    psnr: float
    ssim: float
    mse: float


@dataclass
class Quality:
    """Means over the images of a split."""

    dataset: str
    split: str
    seed: int
    scores: list[Score] = field(default_factory=list)

    def mean(self, figure: str) -> float:
        """The mean of "psnr", "ssim" or "mse" over the images."""
        return math.fsum(getattr(score, figure) for score in self.scores) / len(self.scores)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for metrics.json and `--json`."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "seed": self.seed,
            "images": len(self.scores),
            "psnr_db": round(self.mean("psnr"), 4),
            "ssim": round(self.mean("ssim"), 5),
            "mse": float(f"{self.mean('mse'):.6g}"),
            "per_image": [
                {"name": s.name, "psnr_db": round(s.psnr, 4), "ssim": round(s.ssim, 5)} for s in self.scores
            ],
        }


def score_picture(name: str, scene: str, picture: FloatArray, target: FloatArray) -> Score:
    """Compare a picture with its target, both (3, H, W) in [0, 1]; it is rounded to 8 bits first."""
    import numpy as np

    metrics = require("skimage.metrics", "SSIM")
    shown = np.rint(np.clip(picture, 0, 1) * np.float32(255)).astype(np.float32) / np.float32(255)
    error = float(np.mean(np.square(shown - target, dtype=np.float64)))
    similarity = metrics.structural_similarity(shown, target, channel_axis=0, data_range=1.0)
    return Score(name, scene, psnr(error), float(similarity), error)


def evaluate(
    predict: Predict,
    dataset: Dataset,
    architecture: Architecture,
    *,
    split: Split,
    reporter: Reporter,
    seed: int = 0,
    limit: int | None = None,
) -> Quality:
    """Score the pictures `predict` makes of a split. Memory does not grow with the number of images."""
    quality = Quality(dataset.id, split, seed)
    total = len(dataset.scenes(split))
    if not total:
        raise InputError(
            f"{dataset.id} has no images in its {split} split.",
            hint="Add photographs with --photos DIR, or choose another split with --split.",
        )
    reporter.start(f"evaluate on {dataset.id}/{split}", min(total, limit or total), "images")
    for sample in islice(dataset.frames(architecture, split, seed), limit):
        quality.scores.append(_score(predict, sample))
        reporter.advance(1, psnr=quality.scores[-1].psnr)
    reporter.finish()
    return quality


def _score(predict: Predict, sample: Sample) -> Score:
    if sample.target is None:
        raise ZooError(f"{sample.name} has no target to compare with.")
    picture = predict(sample.inputs)
    height, width = sample.target.shape[1:]
    return score_picture(sample.name, sample.scene, picture[:, :height, :width], sample.target)


@dataclass(frozen=True)
class Agreement:
    """How far a classifier agrees with another: share of equal top-1 classes, and signal-to-error ratio in dB."""

    dataset: str
    split: str
    images: int
    top1: float
    logits_db: float

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for metrics.json and `--json`."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "images": self.images,
            "top1_agreement": round(self.top1, 5),
            "logits_sqnr_db": round(self.logits_db, 4),
        }


def agreement(
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
        raise InputError(
            f"{dataset.id} has no images in its {split} split.", hint="Add photographs with --photos DIR."
        )
    ratio = PSNR_CEILING if error == 0 else min(PSNR_CEILING, 10 * math.log10(max(signal, 1e-30) / error))
    return Agreement(dataset.id, split, images, same / images, ratio)
