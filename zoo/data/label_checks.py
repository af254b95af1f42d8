"""What labels of classes must be, whatever they are read from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data.picture_files import counted, listed
from zoo.errors import InputError
from zoo.tasks.mask_scores import IGNORED

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import Architecture, Sample

#: What is above it belongs to a mask.
_HALF = 0.5


def refuse_single_class(labels: Sequence[object], what: str, *, hint: str) -> None:
    """Refuse samples that all have one class: nothing can be learned from them, and every score is that of chance.

    Args:
        labels: Of all samples, or of those that were looked at.
        what: The samples are, as in "image".
        hint: How to look at them.

    Raises:
        InputError: There is one class only.
    """
    if len(set(labels)) == 1:
        raise InputError(
            f"All {counted(len(labels), what)} have the class '{labels[0]}'; at least two are needed.",
            hint=hint,
        )


class Meaning:
    """What the samples that are looked at before any work mean together, for a network.

    Args:
        architecture: The network.

    Attributes:
        is_beginning: Whether the samples may be the first of more in their order, and so of one class if they are
            sorted.
    """

    def __init__(self, architecture: Architecture) -> None:
        self.is_beginning = False
        self._kind = architecture.output.kind
        self._classes: set[float] = set()
        self._labels: list[int] = []
        self._brightest, self._targets, self._unchanged = 0.0, 0, 0

    def add(self, sample: Sample) -> None:
        """Take a sample, with its input (C, H, W) and its target as the network outputs it."""
        target = sample.target
        if target is None:
            return
        self._targets += 1
        if self._kind == "logits":
            if target.ndim == 0 and target.dtype.kind in "ui":
                self._labels.append(int(target))
        elif self._kind == "mask":
            self._brightest = max(self._brightest, float(target.max(initial=0)))
            self._classes |= set(np.unique(target > _HALF).astype(float).tolist())
        elif self._kind == "classes":
            self._classes |= set(np.unique(target).astype(float).tolist()) - {IGNORED}
        elif self._kind in ("rgb", "gray"):
            self._unchanged += np.array_equal(sample.inputs, target)

    def refuse(self, *, hint: str) -> None:
        """Refuse samples from which nothing can be learned.

        Args:
            hint: How to look at the labels.

        Raises:
            InputError: All have one class and are no beginning, or their targets are their inputs.
        """
        if not self.is_beginning:
            refuse_single_class(self._labels, "sample", hint=hint)
        looked_at = f"{counted(self._targets, 'sample')} that were looked at"
        single = self._targets and len(self._classes) < 2 and not self.is_beginning
        if self._kind in ("mask", "classes") and single:
            if self._kind == "mask" and 0 < self._brightest <= _HALF:
                raise InputError(
                    f"No pixel of the masks of {looked_at} is above one half; the largest value is "
                    f"{self._brightest:.4g}.",
                    hint="Bytes count as shares of 255: where they are 0 and 1, store them as booleans or floats.",
                )
            only = next(iter(self._classes), None)
            raise InputError(
                f"All pixels of {looked_at} have one class{'' if only is None else f', {only:g}'}; at least two are "
                "needed.",
                hint=hint,
            )
        if self._targets and self._unchanged == self._targets:
            raise InputError(
                f"The target of all {looked_at} is the input: a network would learn to change nothing.",
                hint="Name other arrays of inputs and targets.",
            )


def refuse_untrained(trained: Iterable[str], tested: Iterable[str], *, hint: str) -> None:
    """Refuse classes that only the samples for testing have.

    Args:
        trained: Names of the classes of the samples for training.
        tested: Names of those for testing.
        hint: How to look at them.

    Raises:
        InputError: There are some.
    """
    lacking = sorted(set(tested) - set(trained))
    if lacking:
        raise InputError(
            f"Classes of the test images that the training images lack ({len(lacking)}): {listed(lacking)}.",
            hint=hint,
        )


def as_class(stored: npt.NDArray[Any], architecture: Architecture, what: str) -> npt.NDArray[np.int64]:
    """Return the number of a class, of no dimension.

    Args:
        stored: One whole number, () or (1,).
        architecture: The network, whose outputs say how many classes there are.
        what: Whose label it is, for messages.

    Raises:
        InputError: It is anything else.
    """
    label = stored.reshape(()) if stored.size == 1 else stored
    if label.ndim or label.dtype.kind not in "ui":
        raise InputError(
            f"{what} has the target {stored.dtype} {'x'.join(map(str, stored.shape)) or stored}, not the number of a "
            "class.",
            hint="A label is a whole number; of one-hot labels, that is the place of the one:  labels.argmax(1)",
        )
    _check_number(int(label), architecture, what)
    return np.array(int(label), dtype=np.int64)


def check_pixel_classes(stored: npt.NDArray[Any], architecture: Architecture, what: str) -> None:
    """Check a class for each pixel.

    Args:
        stored: Whole numbers, (H, W).
        architecture: The network, whose outputs say how many classes there are.
        what: Whose labels they are, for messages.

    Raises:
        InputError: One is no class of the network, nor 255, which stands for pixels that do not count.
    """
    classes = architecture.output.classes
    wrong = stored[((stored < 0) | (stored >= classes)) & (stored != IGNORED)]
    if wrong.size:
        raise InputError(
            f"{what} has the value {int(wrong.flat[0])}; {architecture.id} has classes 0 to {classes - 1}.",
            hint=f"Classes count from 0; {IGNORED} stands for pixels that do not count.",
        )


def check_boxes(stored: npt.NDArray[Any], architecture: Architecture, what: str) -> npt.NDArray[np.float32]:
    """Return boxes and their classes, (n, 5) float32.

    Args:
        stored: Rows of x0, y0, x1, y1 in pixels of the input, and a class.
        architecture: The network, whose outputs say how many classes there are.
        what: Whose boxes they are, for messages.

    Raises:
        InputError: They are anything else.
    """
    boxes = np.ascontiguousarray(stored, dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 5 or not np.isfinite(boxes).all():
        raise InputError(
            f"{what} has boxes of the shape {'x'.join(map(str, stored.shape))}; rows of five finite numbers are "
            "needed.",
            hint="A row is x0, y0, x1, y1 in pixels of the input, and the class.",
        )
    if (boxes[:, 2:4] <= boxes[:, :2]).any():
        raise InputError(f"{what} has a box without an area.", hint="A row is x0, y0, x1, y1, class.")
    for label in boxes[:, 4].tolist():
        _check_number(label, architecture, what)
    return boxes


def _check_number(label: float, architecture: Architecture, what: str) -> None:
    outputs = architecture.output.classes
    if not (0 <= label < outputs and label == int(label)):
        raise InputError(
            f"{what} has the label {label:g}; {architecture.id} has outputs 0 to {outputs - 1}.",
            hint="Labels count from 0.",
        )
