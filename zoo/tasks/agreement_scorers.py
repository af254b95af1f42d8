"""How far a network agrees with the one it was made from, by the kind of its output; no labels are needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo.images.decibels import PSNR_CEILING
from zoo.tasks.scorers import wilson_interval
from zoo.tasks.single_logit import logits_of_both

if TYPE_CHECKING:
    from zoo.contracts import FloatArray, OutputSpec, Scorer, TargetArray

#: The score from which a detection of the original counts as a box.
_CONFIDENT = 0.3


def agreement_scorer(output: OutputSpec) -> Scorer:
    """Return an empty scorer whose targets are the outputs of the original network."""
    if output.kind == "boxes":
        return _BoxAgreement()
    return _Agreement(output.kind)


class _Agreement:
    """The ratio of signal to error, and of classes the share that is the same."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._signal = self._error = self._same = 0.0
        self._places = self._images = 0

    def add(self, prediction: FloatArray, target: TargetArray) -> Mapping[str, float]:
        """Compare two outputs of one shape, (classes,), (C, H, W) or any other."""
        import numpy as np

        self._images += 1
        self._signal += float(np.sum(np.square(target, dtype=np.float64)))
        self._error += float(np.sum(np.square(prediction - target, dtype=np.float64)))
        if self._kind not in ("logits", "classes"):
            return {}
        if self._kind == "logits":
            prediction, target = logits_of_both(prediction), logits_of_both(target)
        same = prediction.argmax(axis=0) == target.argmax(axis=0)
        self._same += float(np.sum(same))
        self._places += np.size(same)
        return {"top1_agreement" if self._kind == "logits" else "pixel_agreement": float(np.mean(same))}

    def result(self) -> Mapping[str, float]:
        """Return the figures over all images."""
        # an output that is zero all over has no signal to speak of
        share = self._error / max(self._signal, 1e-30)
        ratio = PSNR_CEILING if share == 0 else min(PSNR_CEILING, -10 * math.log10(share))
        if not math.isfinite(share):
            ratio, share = -PSNR_CEILING, 10 ** (PSNR_CEILING / 10)
        if self._kind == "logits":
            return {"top1_agreement": self._same / self._images, "logits_sqnr_db": ratio}
        if self._kind == "classes":
            return {"pixel_agreement": self._same / self._places, "signal_to_error_db": ratio}
        return {
            "deviation_db": min(PSNR_CEILING, 10 * math.log10(1 + share)),
            "signal_to_error_db": ratio,
        }

    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """Return the interval of the share of images with the same class."""
        if self._kind != "logits":
            return {}
        return {"top1_agreement": wilson_interval(self._same, self._images)}


class _BoxAgreement:
    """The mean average precision of detections, the confident ones of the original being what is wanted."""

    def __init__(self) -> None:
        from zoo.tasks.average_precision import AveragePrecision

        self._inner = AveragePrecision()

    def add(self, prediction: FloatArray, target: TargetArray) -> Mapping[str, float]:
        """Compare the detections of two networks, (n, 6) each."""
        from zoo.tasks.average_precision import suppressed

        wanted = suppressed(target.astype("float32"))
        wanted = wanted[wanted[:, 4] >= _CONFIDENT]
        return self._inner.add(suppressed(prediction), wanted[:, [0, 1, 2, 3, 5]])

    def result(self) -> Mapping[str, float]:
        """Return the figure over all images."""
        return {"box_agreement": self._inner.result()["map"]}

    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """Return nothing: no interval is known."""
        return {}
