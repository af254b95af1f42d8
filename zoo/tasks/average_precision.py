"""Mean average precision of detections, as COCO defines it.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014; https://cocodataset.org/#detection-eval. Precision is
made monotone and averaged at 101 recalls, for each class and each of ten thresholds of IoU from 0.5 to 0.95. Boxes of
all sizes count, and the 100 best detections of an image and class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray, TargetArray

    Bools = npt.NDArray[np.bool_]

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100


class AveragePrecision:
    """A scorer of detections, (n, 6) with x0, y0, x1, y1, score and class in a row, against boxes (n, 5) with a class.

    Detections with a score of 0 or less do not count.
    """

    def __init__(self) -> None:
        #: By class: the scores of its detections, and for each threshold whether each is right.
        self._found: dict[int, list[tuple[FloatArray, Bools]]] = {}
        self._wanted: dict[int, int] = {}

    def add(self, prediction: FloatArray, target: TargetArray) -> Mapping[str, float]:
        """Take the detections (n, 6) and the boxes (m, 5) of one image, which has no scores of its own."""
        prediction = prediction[prediction[:, 4] > 0]
        for label in np.union1d(prediction[:, 5], target[:, 4]).astype(int):
            ours, boxes = prediction[prediction[:, 5] == label], target[target[:, 4] == label][:, :4]
            ours = ours[np.argsort(-ours[:, 4], kind="stable")][:_MOST]
            self._wanted[label] = self._wanted.get(label, 0) + len(boxes)
            right = np.stack([_matched(overlaps(ours[:, :4], boxes), each) for each in _THRESHOLDS])
            self._found.setdefault(label, []).append((ours[:, 4], right))
        return {}

    def result(self) -> Mapping[str, float]:
        """Return the mean average precision over classes and thresholds, and that at an IoU of 0.5."""
        rows = [self._of_class(label) for label, count in self._wanted.items() if count]
        if not rows:
            return {"map": 0.0, "map50": 0.0}
        table = np.array(rows)
        return {"map": float(table.mean()), "map50": float(table[:, 0].mean())}

    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """Return nothing: no interval is known."""
        return {}

    def _of_class(self, label: int) -> Sequence[float]:
        scores = np.concatenate([each for each, _ in self._found[label]])
        right = np.concatenate([each for _, each in self._found[label]], axis=1)
        right = right[:, np.argsort(-scores, kind="stable")]
        return [_average_precision(row, self._wanted[label]) for row in right]


def overlaps(first: FloatArray, second: TargetArray) -> npt.NDArray[np.float64]:
    """Return the intersection over union of each pair of boxes.

    Args:
        first: (n, 4), x0, y0, x1, y1 in a row.
        second: (m, 4).

    Returns:
        (n, m) in [0, 1].
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = (high - low).clip(0).prod(axis=2)
    areas = [(each[:, 2:] - each[:, :2]).clip(0).prod(axis=1) for each in (first, second)]
    either = areas[0][:, None] + areas[1][None] - both
    return np.asarray(both / np.maximum(either, 1e-12))


def suppressed(boxes: FloatArray, most: float = 0.6) -> FloatArray:
    """Return detections (n, 6) by falling score, without those that overlap a better one of their class.

    Args:
        boxes: x0, y0, x1, y1, score and class in a row.
        most: The IoU above which the worse of two goes.
    """
    boxes = boxes[boxes[:, 4] > 0]
    boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept: list[int] = []
    together = overlaps(boxes[:, :4], boxes[:, :4]) > most
    for number in range(len(boxes)):
        if not any(together[number, other] and boxes[number, 5] == boxes[other, 5] for other in kept):
            kept.append(number)
    return boxes[kept]


def _matched(overlap: npt.NDArray[np.float64], threshold: float) -> Bools:
    """Whether each detection, the best first, takes a box that is free: the one it overlaps most."""
    right = np.zeros(len(overlap), bool)
    free = np.ones(overlap.shape[1], bool)
    for number, row in enumerate(overlap):
        open_ = np.where(free, row, -1.0)
        if len(open_) and open_.max() >= threshold:
            right[number], free[int(open_.argmax())] = True, False
    return right


def _average_precision(right: Bools, wanted: int) -> float:
    """Return the precision, made monotone, averaged over the recalls."""
    if not len(right):
        return 0.0
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / wanted, _RECALLS - 1e-12, side="left")
    return float(np.append(precision, 0.0)[places].mean())
