"""What is measured on an image: PSNR, SSIM and MSE of a picture, Dice and IoU of a mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.extras import require
from zoo.images.decibels import psnr

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Metric:
    """One figure of an image. Higher is better, except for an error.

    Attributes:
        key: In metrics.json and `--json`.
        unit: Shown after the number, "" for none.
        decimals: Shown.
        steps: `--max-loss` is counted in 1/steps of the figure.
        budget: What `--max-loss` is counted in: "dB of PSNR".
    """

    key: str
    name: str
    unit: str = ""
    decimals: int = 4
    steps: float = 1.0
    budget: str = ""

    def show(self, value: float) -> str:
        """Return the value as tables show it: "28.88 dB", "0.7870"."""
        return f"{value:.{self.decimals}f} {self.unit}".rstrip()


@dataclass(frozen=True)
class MetricSet:
    """How the outputs of one kind are measured.

    Attributes:
        metrics: The first one is what `--max-loss` limits.
        compare: Called with the output and the target, (C, H, W) in [0, 1] each; returns a value for each
            metric by its key.
    """

    metrics: tuple[Metric, ...]
    compare: Callable[[FloatArray, FloatArray], Mapping[str, float]]


def compare_images(picture: FloatArray, target: FloatArray) -> dict[str, float]:
    """Return PSNR in dB, SSIM and MSE; the picture is rounded to 8 bits first.

    Args:
        picture: (3, H, W) in [0, 1].
        target: (3, H, W) in [0, 1].
    """
    import numpy as np

    metrics = require("skimage.metrics", "SSIM")
    shown = np.rint(np.clip(picture, 0, 1) * np.float32(255)).astype(np.float32) / np.float32(255)
    error = float(np.mean(np.square(shown - target, dtype=np.float64)))
    similarity = metrics.structural_similarity(shown, target, channel_axis=0, data_range=1.0)
    return {"psnr_db": psnr(error), "ssim": float(similarity), "mse": error}


def compare_masks(mask: FloatArray, target: FloatArray) -> dict[str, float]:
    """Return the Dice coefficient and the intersection over union, as means over the channels.

    What is above one half belongs to the class. A class that is neither there nor found counts as found.
    Dice, "Measures of the amount of ecologic association between species", Ecology 1945; Jaccard 1901.

    Args:
        mask: (C, H, W) in [0, 1].
        target: (C, H, W) in [0, 1].
    """
    found, wanted = mask > 0.5, target > 0.5
    both = (found & wanted).sum(axis=(1, 2), dtype="float64")
    either = (found | wanted).sum(axis=(1, 2), dtype="float64")
    empty = either == 0
    either[empty] = both[empty] = 1
    return {"dice": float((2 * both / (both + either)).mean()), "iou": float((both / either).mean())}


IMAGE_METRICS = MetricSet(
    (
        Metric("psnr_db", "PSNR", "dB", 2, budget="dB of PSNR"),
        Metric("ssim", "SSIM"),
        Metric("mse", "MSE", decimals=6),
    ),
    compare_images,
)
MASK_METRICS = MetricSet(
    (Metric("dice", "Dice", steps=100, budget="points of Dice"), Metric("iou", "IoU")), compare_masks
)
#: By the kind of a network's output. Logits are compared with those of another network instead.
METRICS_BY_TASK: dict[str, MetricSet] = {"rgb": IMAGE_METRICS, "mask": MASK_METRICS}
#: Every metric by its key.
METRICS = {metric.key: metric for each in METRICS_BY_TASK.values() for metric in each.metrics}
