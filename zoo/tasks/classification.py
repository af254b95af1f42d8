"""The task of telling what an image shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Metric, OutputSpec, Scorer, Shown, Task
from zoo.errors import InputError
from zoo.tasks.built_in_metrics import TOP1, TOP5
from zoo.tasks.single_logit import logits_of_both

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.contracts import FloatArray, TargetArray

#: Classes that are shown, and the ones among which the right one counts for top-5.
_BEST = 5


class ClassificationTask(Task):
    """One class for an image."""

    id: ClassVar[str] = "classification"
    summary: ClassVar[str] = "the class of an image, from logits"
    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    measures: ClassVar[tuple[Metric, ...]] = (TOP1, TOP5)
    pipeline: ClassVar[str] = "image-classification"
    data: ClassVar[str] = "photos"
    data_hint: ClassVar[str] = "Try --data 'folder(root=DIR)' with labels, or --data photos without them"

    def loss(self, output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor]:
        """Return cross-entropy against the index of the class."""
        from zoo.tasks.losses import class_cross_entropy

        return class_cross_entropy

    def scorer(self, output: OutputSpec) -> Scorer:
        """Return a scorer of top-1 and, where there are more than five classes, top-5."""
        from zoo.tasks.scorers import MeanScorer

        def compare(logits: FloatArray, label: TargetArray) -> dict[str, float]:
            _refuse_other_than_a_class(label)
            logits = logits_of_both(logits)
            # Of equal logits the first one wins, as argmax has it.
            better = int(
                (logits > logits[int(label)]).sum() + (logits[: int(label)] == logits[int(label)]).sum()
            )
            found = {"top1": float(better == 0)}
            return {**found, "top5": float(better < _BEST)} if len(logits) > _BEST else found

        return MeanScorer(compare, shares=("top1", "top5"))

    def show(
        self,
        prediction: FloatArray,
        inputs: FloatArray,
        output: OutputSpec,
        names: Sequence[str] = (),
    ) -> Shown:
        """Return the five classes with the highest confidence, of logits (classes,) for an input (C, H, W)."""
        import numpy as np

        prediction = logits_of_both(prediction)
        logits = prediction.astype(np.float64)
        confidence = np.exp(logits - logits.max())
        confidence /= confidence.sum()
        best = np.argsort(-prediction, kind="stable")[:_BEST]
        return Shown(
            [
                {
                    "class": int(index),
                    "label": names[index] if index < len(names) else "",
                    "confidence": float(confidence[index]),
                    "logit": float(prediction[index]),
                }
                for index in best
            ]
        )


def _refuse_other_than_a_class(label: TargetArray) -> None:
    if label.ndim or int(label) != label:
        shown = f"{label.dtype} numbers of the shape {label.shape}" if label.ndim else f"{float(label):g}"
        raise InputError(
            f"A target is {shown}, not the number of a class.",
            hint="Labels are whole numbers from 0, of no further dimension: of one-hot labels targets.argmax(1), of "
            "columns targets[:, 0]. What other targets mean, tell loss=... and metric=...",
        )
