"""The task of finding objects and the boxes around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Metric, OutputSpec, Scorer, Shown, Task
from zoo.tasks.built_in_metrics import AP50, MEAN_AP

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.contracts import FloatArray, TargetArray

#: The score below which no box is drawn.
_DRAWN = 0.3


class DetectionTask(Task):
    """Boxes with scores and classes. Of two that overlap in a class, the better one counts."""

    id: ClassVar[str] = "detection"
    summary: ClassVar[str] = "boxes around objects, with scores and classes"
    outputs: ClassVar[tuple[str, ...]] = ("boxes",)
    measures: ClassVar[tuple[Metric, ...]] = (MEAN_AP, AP50)
    pipeline: ClassVar[str] = "object-detection"
    data_hint: ClassVar[str] = "Name yours:  --data 'coco(root=DIR)'"

    def loss(self, output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Return :func:`zoo.tasks.box_loss.box_loss`, for networks whose boxes and scores carry gradients.

        Detectors that are trained on what they compute before they pick boxes state a loss of their own.
        """
        from zoo.tasks.box_loss import box_loss

        return box_loss

    def scorer(self, output: OutputSpec) -> Scorer:
        """Return a scorer of the mean average precision."""
        return _SuppressedScorer()

    def show(
        self,
        prediction: FloatArray,
        inputs: FloatArray,
        output: OutputSpec,
        names: Sequence[str] = (),
    ) -> Shown:
        """Return the boxes (n, 6), the best first, and the input (C, H, W) with the boxes drawn."""
        from zoo.tasks.average_precision import suppressed
        from zoo.tasks.drawing import with_boxes

        rows = [
            {
                "class": int(row[5]),
                "label": names[int(row[5])] if 0 <= int(row[5]) < len(names) else "",
                "confidence": float(row[4]),
                "box": [round(float(each), 1) for each in row[:4]],
            }
            for row in suppressed(prediction)
            if row[4] >= _DRAWN
        ]
        return Shown(rows, with_boxes(inputs, rows))


class _SuppressedScorer:
    """The mean average precision after the worse of two overlapping boxes of a class is gone."""

    def __init__(self) -> None:
        from zoo.tasks.average_precision import AveragePrecision

        self._inner = AveragePrecision()

    def add(self, prediction: FloatArray, target: TargetArray) -> Mapping[str, float]:
        """Take the detections (n, 6) and the boxes (n, 5) of one image."""
        from zoo.tasks.average_precision import suppressed

        return self._inner.add(suppressed(prediction), target)

    def result(self) -> Mapping[str, float]:
        """Return the mean average precision over all images."""
        return self._inner.result()

    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """Return nothing: no interval is known."""
        return {}
