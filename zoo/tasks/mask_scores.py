"""How well masks and the classes of pixels are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.contracts import FloatArray, TargetArray

#: The class of pixels that do not count.
IGNORED = 255


def compare_masks(mask: FloatArray, target: TargetArray) -> dict[str, float]:
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


class ClassScorer:
    """The classes of pixels: the mean IoU over the classes of all images together, and the share of right pixels.

    Args:
        classes: How many there are.
    """

    def __init__(self, classes: int) -> None:
        import numpy as np

        self._classes = classes
        self._counts: npt.NDArray[np.int64] = np.zeros((classes, classes), np.int64)

    def add(self, prediction: FloatArray, target: TargetArray) -> Mapping[str, float]:
        """Take logits (classes, H, W) and the class of each pixel, (H, W), 255 where none counts."""
        import numpy as np

        counted = (target != IGNORED) & (target >= 0) & (target < self._classes)
        wanted, found = target[counted].astype(np.int64), prediction.argmax(axis=0)[counted]
        pairs = np.bincount(wanted * self._classes + found, minlength=self._classes**2)
        self._counts += pairs.reshape(self._classes, self._classes)
        return {"pixel_accuracy": float((wanted == found).mean())} if wanted.size else {}

    def result(self) -> Mapping[str, float]:
        """Return the mean IoU over the classes that occur or were found, and the share of pixels that are right."""
        import numpy as np

        right = np.diag(self._counts).astype(np.float64)
        either = self._counts.sum(axis=0) + self._counts.sum(axis=1) - right
        seen = either > 0
        if not seen.any():
            return {"miou": 0.0, "pixel_accuracy": 0.0}
        return {
            "miou": float((right[seen] / either[seen]).mean()),
            "pixel_accuracy": float(right.sum() / self._counts.sum()),
        }

    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """Return nothing: neighbouring pixels are not independent."""
        return {}
